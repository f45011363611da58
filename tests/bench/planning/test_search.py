"""The search of learning rates and strengths: what is tried, with what fixed, and what wins."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cards import suites
from bench.cli.app import call
from bench.errors import BenchError
from bench.kinds.addition import Addition
from bench.kinds.expert import Finetune
from bench.planning import search
from bench.registry import catalogue
from bench.store.records import Record
from bench.work.coefficients import WHOLE

KNOWN = catalogue.load()


def test_every_method_tries_the_same_declared_values_with_the_asked_recipe() -> None:
    suite = suites.load("vision8")
    first = search.learning_rates(suite, (("clip", 0.5),))
    assert {(t.finetuning, t.value) for t in first} == {
        (method, rate) for method in ("nonlinear", "tta", "att", "lora") for rate in (3e-6, 1e-5, 3e-5, 1e-4)
    }
    cells = search.plan(suite, first[0], KNOWN, backbones=("ViT-B-16",))
    experts = [cell for cell in cells if isinstance(cell, Finetune)]
    assert len(experts) == 8
    assert {(c.backbone, c.recipe.lr, c.recipe.clip, c.method) for c in experts} == {
        ("ViT-B-16", 3e-6, 0.5, "nonlinear")
    }
    assert isinstance(cells[-1], Addition)
    assert cells[-1].operator == search.CRITERION


def test_the_form_of_the_penalty_travels_with_the_strength_that_was_searched_under_it() -> None:
    suite = suites.load("vision8")
    chosen = {method: {"form": "squared", "lr": 1e-5} for method in ("nonlinear", "tta", "att", "lora")}
    second = search.strengths(suite, chosen, "orthoreg")
    assert {t.value for t in second if t.finetuning == "att+orthoreg"} == {0.1, 1.0, 10.0, 100.0}
    expert = next(c for c in search.plan(suite, second[0], KNOWN) if isinstance(c, Finetune))
    assert (expert.recipe.options, expert.recipe.strength, expert.recipe.lr) == ((("form", "squared"),), 0.1, 1e-5)
    outcomes = [
        {**dataclasses.asdict(t), "fixed": dict(t.fixed), "merged": merged}
        for t, merged in zip(second[:4], (0.5, 0.7, 0.7, 0.6), strict=True)
    ]
    assert search.choose(outcomes) == {"nonlinear+orthoreg": {"form": "squared", "lr": 1e-5, "strength": 1.0}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frm=1", "did you mean 'form'"),
        ("clip=x", "clip takes a number"),
        ("form=cubic", "orthoreg: option form='cubic' is not one of 'frobenius', 'squared'"),
        ("betas=1", "no recipe option named 'betas'"),
        ("lr=-1", "lr is -1.0; give a number above 0"),
        ("rank=0", "lora: option rank=0 is not a whole number of at least 1"),
    ],
)
def test_a_wrong_recipe_is_one_line(text: str, said: str, refused: Callable[..., str]) -> None:
    assert said in refused("plan", "--grid", "demo", "--recipe", text)


def test_a_suite_that_declares_no_search_is_told() -> None:
    suite = suites.load("vision8").model_copy(update={"search": {}})
    with pytest.raises(BenchError, match=r"declares no search of 'lr'; add it to \[search\] in vision8\.toml"):
        search.learning_rates(suite)


def tried(value: float, merged: float, finetuning: str = "att", **more: object) -> dict:
    return {"finetuning": finetuning, "option": "lr", "value": value, "fixed": {}, "merged": merged} | more


@pytest.mark.parametrize(
    ("outcomes", "value"),
    [
        ([tried(1.0, 0.5), tried(2.0, 0.7), tried(3.0, 0.6)], 2.0),
        ([tried(3.0, 0.7), tried(1.0, 0.7), tried(2.0, 0.7)], 1.0),  # level: the smaller one, in whatever order
        ([tried(1.0, 0.1), tried(3.0, 0.7), tried(2.0, 0.7)], 2.0),
        ([tried(1.0, 0.2, experts=0.9), tried(2.0, 0.3, experts=0.1)], 2.0),  # the merged model counts
    ],
)
def test_the_best_merge_on_validation_wins_and_ties_go_to_the_smaller_value(outcomes: list, value: float) -> None:
    assert search.choose(outcomes) == {"att": {"lr": value}}


def test_every_method_chooses_among_its_own_trials_and_keeps_what_was_fixed() -> None:
    outcomes = [tried(1.0, 0.9), tried(2.0, 0.1), tried(1.0, 0.2, "tta", fixed={"clip": 0.5}), tried(2.0, 0.3, "tta")]
    assert search.choose(outcomes) == {"att": {"lr": 1.0}, "tta": {"lr": 2.0}}
    assert search.choose(outcomes[:3])["tta"] == {"clip": 0.5, "lr": 1.0}


def test_declared_values_come_smallest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "METHODS", ("att", "tta"))
    suite = suites.load("mini8").model_copy(update={"search": {"lr": (0.3, 0.1, 0.2), "strength": (1.0, 0.5)}})
    assert search.declared(suite, "lr") == (0.1, 0.2, 0.3)
    assert [(t.finetuning, t.option, t.value) for t in search.learning_rates(suite)] == [
        (method, "lr", value) for method in ("att", "tta") for value in (0.1, 0.2, 0.3)
    ]
    chosen = {"att": {"lr": 0.2}, "tta": {"lr": 0.3}}
    assert search.strengths(suite, chosen, "orthoreg") == [
        search.Trial(f"{method}+orthoreg", "strength", value, (("lr", rate),))
        for method, rate in (("att", 0.2), ("tta", 0.3))
        for value in (0.5, 1.0)
    ]


def test_a_trial_is_eight_experts_at_its_value_and_their_whole_sweep_with_task_arithmetic() -> None:
    """What a trial tries comes before what was fixed, and both before the suite's own recipe and searches."""
    trial = search.Trial("att+orthoreg", "strength", 7.0, (("lr", 0.5), ("strength", 1.0)))
    cells = search.plan(suites.load("mini8"), trial, KNOWN, seed=3)
    experts = [cell for cell in cells if isinstance(cell, Finetune)]
    assert {(c.finetuning, c.recipe.strength, c.recipe.lr, c.seed) for c in experts} == {("att+orthoreg", 7.0, 0.5, 3)}
    (merge,) = (cell for cell in cells if isinstance(cell, Addition))
    assert (merge.operator, merge.sweep, merge.seed) == ("task_arithmetic", WHOLE, 3)
    assert merge.needs == tuple(c.key for c in experts)
    assert merge == cells[-1]


def measured(kind: str, split: str, correct: int, total: int, **more: object) -> dict:
    return {"kind": kind, "split": split, "correct": correct, "total": total, "selected": True, "scaling": 1.0} | more


def test_an_outcome_is_the_mean_validation_accuracy_of_the_chosen_merge_and_of_the_experts() -> None:
    expert = (measured("expert", "validation", 9, 10), measured("expert", "test", 1, 10))
    second = (measured("expert", "validation", 3, 4), measured("expert", "test", 0, 4))
    merge = (
        measured("addition", "validation", 1, 2, scaling=0.3),
        measured("addition", "validation", 2, 5, scaling=0.3),
        measured("addition", "validation", 5, 5, scaling=0.6, selected=False),
        measured("addition", "test", 1, 10, scaling=0.3),
    )
    zero = (measured("zeroshot", "validation", 1, 10),)
    records = [
        Record(str(n), {"kind": rows[0]["kind"]}, rows, {}, {"cpu_seconds": seconds} if seconds else {})
        for n, (rows, seconds) in enumerate([(zero, 0), (expert, 1.26), (second, 2.0), (merge, 0.5)])
    ]
    trial = search.Trial("att", "lr", 0.1, (("clip", 0.5),))
    assert search.outcome(trial, records) == {
        "finetuning": "att", "option": "lr", "value": 0.1, "fixed": {"clip": 0.5},
        "merged": (0.5 + 0.4) / 2, "experts": (0.9 + 0.75) / 2, "scaling": 0.3, "cpu_seconds": 3.8,
    }  # fmt: skip


def test_what_was_chosen_is_read_back_as_the_suite_reads_it(tmp_path: Path) -> None:
    chosen = {"att": {"lr": 0.2}, "att+orthoreg": {"lr": 0.2, "strength": 3.0}}
    search.write("mini8", [tried(0.2, 0.5)], chosen, tmp_path / "mini8.search.json")
    assert suites.read_search(tmp_path / "mini8.search.json") == chosen
    assert json.loads((tmp_path / "mini8.search.json").read_text())["trials"] == [tried(0.2, 0.5)]
    assert search.path("mini8").name == "mini8.search.json"


def test_a_suites_recipe_is_what_its_search_chose() -> None:
    """Suite, then method, then regulariser, then the search of this pair, then whoever asks."""
    chosen = suites.read_search(search.path("mini8"))
    suite = suites.load("mini8")
    for name in ("nonlinear", "tta", "att", "lora", "att+orthoreg"):
        method, _, regularizer = name.partition("+")
        found = suite.recipe(method, regularizer, "", KNOWN.options)
        assert {n: dict(found.options).get(n, getattr(found, n, None)) for n in chosen[name]} == chosen[name]
    assert suite.recipe("att", "orthoreg", "", KNOWN.options, strength=0.125, lr=0.25).strength == 0.125
    plain = suite.model_copy(update={
        "name": "unsearched", "methods": {"att": {"lr": 0.5, "clip": 3.0}},
        "regularizers": {"orthoreg": {"lr": 0.25, "strength": 1.0}},
    })  # fmt: skip
    assert [plain.recipe(*way).lr for way in (("tta",), ("att",), ("att", "orthoreg"))] == [1e-4, 0.5, 0.25]
    assert plain.recipe("att", "orthoreg").clip == 3.0
    assert plain.recipe("att", "orthoreg", lr=0.125).lr == 0.125


def test_a_recipe_from_the_command_line_makes_other_experts_and_keeps_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def planned(*words: str) -> int:
        found = ["plan", "--grid", "smoke", "--store", str(tmp_path / "store"), "--json", *words]
        assert call(found) == 0
        done = json.loads(capsys.readouterr().out)["kinds"]["expert"]["done"]
        return int(done)

    some = ["--methods", "att+orthoreg", "--operators", "average", "--store", str(tmp_path / "store"), "--local"]
    assert call(["run", "--grid", "smoke", *some, "--recipe", "form=squared"]) == 0
    capsys.readouterr()
    assert planned("--methods", "att+orthoreg", "--recipe", "form=squared") == 2
    assert planned("--methods", "att+orthoreg") == 0
