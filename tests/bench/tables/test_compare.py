"""Comparisons by hand on rows whose outcome is known, and the sentences they end in."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from samples import TASKS, Synthetic

from bench.cli import compared
from bench.errors import BenchError, UnknownName
from bench.store import results
from bench.store.records import pack_bits
from bench.tables import collect, compare, frames, stats

RIGHT = {"a": [1, 1, 1, 1, 0, 0, 0, 0], "b": [1, 0, 0, 0, 0, 0, 0, 0]}


def crafted(**skill):
    return Synthetic(skill=skill)


def by_hand():
    """One seed, tasks of 8 images; att/ties is right on 4 and nonlinear/ties on 1, everywhere."""
    sample = Synthetic(methods=("nonlinear", "att"), operators=("ties",), seeds=(0,), negation=False)
    for record in sample.records:
        for row in record.rows:
            name = {"att": "a", "nonlinear": "b"}.get(row["finetuning"], "b")
            right = RIGHT[name] if row["kind"] == "addition" else [1] * 8
            row |= {"correct": sum(right), "total": 8, "bits": pack_bits(right) if row["split"] == "test" else b""}
    return sample.tables()


def text(result):
    sink = io.StringIO()
    Console(file=sink, width=200).print(compared.render(result))
    return sink.getvalue()


def test_a_pair_by_hand():
    found = compare.compare(*by_hand(), "att/ties", "nonlinear/ties")
    assert (found["a"]["accuracy"], found["b"]["accuracy"], found["difference"]) == (50.0, 12.5, 37.5)
    assert found["a"]["normalised"] == found["a"]["normalised_common"] == 50.0
    assert [(t["won"], t["lost"], t["p"], t["p_holm"]) for t in found["tasks"]] == [(3, 0, 0.25, 0.75)] * 3
    # 9 images won, 0 lost: the score test has z = 3
    assert found["p"] == pytest.approx(0.0027, abs=5e-5)
    assert found["verdict"] == "better"
    assert found["sentence"].startswith("att/ties is better than nonlinear/ties: +37.50 points [")


def test_swapping_the_rows_turns_the_sign_and_the_verdict():
    one = compare.compare(*by_hand(), "att/ties", "nonlinear/ties")
    other = compare.compare(*by_hand(), "nonlinear/ties", "att/ties")
    assert other["difference"] == -one["difference"]
    assert other["p"] == one["p"]
    assert (one["verdict"], other["verdict"]) == ("better", "worse")
    assert [(t["lost"], t["won"]) for t in other["tasks"]] == [(3, 0)] * 3


def test_a_row_against_itself_is_tied_within_nothing():
    found = compare.compare(*by_hand(), "att/ties", "att/ties")
    assert (found["difference"], found["low"], found["high"], found["p"], found["verdict"]) == (0, 0, 0, 1, "tied")
    assert found["sentence"].startswith("att/ties and att/ties are tied within 0.00 points")


def test_references_can_be_compared_too():
    found = compare.compare(*crafted().tables(), "att/expert", "zero-shot")
    assert found["verdict"] == "better"
    assert found["b"]["normalised"] is None
    assert found["boards_differ"] is False


def test_the_numbers_are_those_of_the_statistics():
    rows, cells = crafted().tables()
    found = compare.compare(rows, cells, "att/ties", "nonlinear/ties")
    lines = collect.collect(rows, cells)
    a, b = lines.find("att/ties"), lines.find("nonlinear/ties")
    values = [x - y for x, y in zip(a.outcome(), b.outcome(), strict=True)]
    prior = lines.seed_prior(a, (0, 1, 2), paired=True)
    (expected,) = stats.estimates([values], priors=[prior])
    assert found["difference"] == pytest.approx(100 * expected.value, abs=0.005)
    assert (found["low"], found["high"]) == (frames.percent(expected.low), frames.percent(expected.high))
    assert found["p"] == pytest.approx(expected.p, abs=1e-6)


def test_every_number_of_a_side_is_over_the_seeds_of_the_comparison():
    sample = crafted()
    experts = [f"expert-att-{task}-0" for task in TASKS]
    sample.addition("att", "young", 0, experts, 0.6)
    found = compare.compare(*sample.tables(), "att/ties", "att/young")
    assert found["seeds"] == [0]
    lines = collect.collect(*sample.tables())
    row = lines.find("att/ties")
    assert found["a"]["accuracy"] == frames.percent(np.mean(list(row.accuracies(0).values())))
    assert found["a"]["normalised"] == frames.percent(lines.normalised(row, seeds=[0]))
    assert found["a"]["normalised"] != frames.percent(lines.normalised(row))


def test_a_baseline_that_saw_less_is_said():
    sample = crafted()
    for method in ("att", "att+orthoreg"):
        for seed in (0, 1, 2):
            experts = [f"expert-{method}-{task}-{seed}" for task in TASKS]
            sample.addition(method, "peeking", seed, experts, 0.6, board="unlabelled-test")
    found = compare.compare_regularizer(*sample.tables(), "peeking")
    assert {c["kind"]: c["boards_differ"] for c in found["comparisons"]} == {
        "effect": False, "instead": True, "beside": True,
    }  # fmt: skip
    assert "peeking and task_arithmetic are on different boards" in text(found)


def test_what_was_not_measured_is_named_with_its_reason():
    sample = crafted()
    for seed in (0, 1):
        experts = [f"expert-att+orthoreg-{task}-{seed}" for task in TASKS]
        sample.addition("att+orthoreg", "mine", seed, experts, 0.6)
    sample.inapplicable("nonlinear", "mine", 0, "needs a reason")
    found = compare.compare_regularizer(*sample.tables(), "mine")
    assert [(c["method"], c["kind"], c["seeds"]) for c in found["comparisons"]] == [("att", "beside", [0, 1])]
    assert found["left_out"] == [
        {"name": "att/mine", "reason": "not measured"},
        {"name": "nonlinear/mine", "reason": "not applicable, needs a reason"},
        {"name": "nonlinear+orthoreg/mine", "reason": "not measured"},
    ]
    shown = text(found)
    assert "left out, not measured: att/mine, nonlinear+orthoreg/mine\n" in shown
    assert "Fewer than 3 seeds: this speaks of these very models" in shown
    assert "Fewer than" not in text(compare.compare_regularizer(*crafted().tables(), "ties"))


def test_of_an_operator_measured_in_two_ways_one_is_named():
    sample = Synthetic(methods=("att", "att+orthoreg"), operators=("ties",), seeds=(0,))
    for method in ("att", "att+orthoreg"):
        experts = [f"expert-{method}-{task}-0" for task in TASKS]
        sample.addition(method, "ties", 0, experts, 0.8, options='{"density":0.1}')
    with pytest.raises(BenchError, match=r"in 2 ways \(ties\[defaults\], ties\[density=0.1\]\); name one of them"):
        compare.compare_regularizer(*sample.tables(), "ties")
    (effect,) = compare.compare_regularizer(*sample.tables(), "ties[density=0.1]")["comparisons"]
    assert (effect["a"]["name"], effect["kind"]) == ("att+orthoreg/ties[density=0.1]", "effect")


def test_an_operator_next_to_a_regularizer_on_every_method():
    # attention: OrthoReg adds 0.3; nonlinear: it takes 0.3 away
    skill = {"att/ties": 0.4, "att+orthoreg/ties": 0.7, "nonlinear/ties": 0.7, "nonlinear+orthoreg/ties": 0.4}
    found = compare.compare_regularizer(*crafted(**skill).tables(), "ties")
    assert [(c["method"], c["kind"]) for c in found["comparisons"]] == [
        (m, k) for m in ("att", "nonlinear") for k in ("effect", "instead", "beside")
    ]
    effects = {c["method"]: c for c in found["comparisons"] if c["kind"] == "effect"}
    assert (effects["att"]["a"]["name"], effects["att"]["b"]["name"]) == ("att+orthoreg/ties", "att/ties")
    assert (effects["att"]["verdict"], effects["nonlinear"]["verdict"]) == ("better", "worse")
    assert "orthoreg under ties: 1 better, 1 worse of 2 fine-tuning methods" in found["sentence"]


def test_the_family_is_adjusted_with_holm():
    rows, cells = crafted().tables()
    found = compare.compare_regularizer(rows, cells, "ties")["comparisons"]
    alone = [compare.compare(rows, cells, c["a"]["name"], c["b"]["name"])["p"] for c in found]
    assert [c["p"] for c in found] == pytest.approx(stats.holm(alone), abs=1e-5)
    assert "(Holm over 6 comparisons)" in found[0]["sentence"]


def test_the_baseline_itself_has_only_its_effect():
    found = compare.compare_regularizer(*crafted().tables(), "task_arithmetic")
    assert {c["kind"] for c in found["comparisons"]} == {"effect"}


def test_the_text_says_what_the_numbers_say():
    found = compare.compare(*crafted().tables(), "att/ties", "nonlinear/ties")
    shown = text(found)
    for value in (found["a"]["accuracy"], found["b"]["normalised_common"], found["tasks"][0]["a"]):
        assert f"{value:.2f}" in shown
    assert found["sentence"] in shown
    family = compare.compare_regularizer(*crafted().tables(), "ties")
    assert all(f"{c['difference']:+.2f}" in text(family) for c in family["comparisons"])


def test_results_are_plain_json():
    for found in (
        compare.compare(*crafted().tables(), "att/ties", "zero-shot"),
        compare.compare_regularizer(*crafted().tables(), "ties"),
    ):
        assert json.loads(json.dumps(found)) == found


def test_mistakes_are_answered_in_one_line():
    rows, cells = crafted().tables()
    with pytest.raises(UnknownName, match="did you mean 'att/ties'"):
        compare.compare(rows, cells, "att/tis", "nonlinear/ties")
    with pytest.raises(UnknownName, match="did you mean 'ties'"):
        compare.compare_regularizer(rows, cells, "tie")
    with pytest.raises(BenchError, match="not been measured with and without orthoreg_diagonal"):
        compare.compare_regularizer(rows, cells, "ties", "orthoreg_diagonal")


def test_an_unknown_regularizer_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="no regulariser named 'orthregg'; did you mean 'orthoreg'"):
        compare.compare_regularizer(*Synthetic(seeds=(0,)).tables(), "ties", "orthregg")


def test_an_incomplete_row_is_not_compared():
    sample = crafted()
    record = next(r for r in sample.records if r.key == "addition-att-ties-0")
    cut = [r for r in record.rows if not (r["split"] == "test" and r["task"] == "cars")]
    object.__setattr__(record, "rows", tuple(cut))
    with pytest.raises(BenchError, match="att/ties has 2/3 tasks"):
        compare.compare(*sample.tables(), "att/ties", "nonlinear/ties")


def test_reading_and_comparing_need_neither_torch_nor_a_plotting_library(tmp_path):
    results.write(tmp_path / "toy", *crafted().tables())
    code = (
        "import sys; from bench.store import results; from bench.tables import compare\n"
        f"compare.compare(*results.load({str(tmp_path / 'toy')!r}), 'att/ties', 'nonlinear/ties')\n"
        "print(sorted({'torch', 'ray', 'matplotlib', 'open_clip'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
