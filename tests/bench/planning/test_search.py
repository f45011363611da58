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
