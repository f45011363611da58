"""Boards by hand, what stands beside them, and the states in which little can be shown."""

import numpy as np
import pyarrow as pa
import pytest
from samples import GRID, IMAGES, METHODS, OPERATORS, TASKS, Synthetic, without

from bench.boards import boards, columns, html, text, views
from bench.ground.metrics import mean_accuracy
from bench.store.records import SCHEMA, unpack_bits
from bench.tables import collect, frames, stats


@pytest.fixture(scope="module")
def page():
    return boards.build(*Synthetic().tables())


def test_rows_are_ranked_by_absolute_accuracy(page):
    (board,) = page["boards"]
    assert board["board"] == "validation-tuned"
    assert len(board["rows"]) == len(METHODS) * len(OPERATORS)
    values = [row["accuracy"] for row in board["rows"]]
    assert values == sorted(values, reverse=True)
    assert [row["rank"] for row in board["rows"]] == list(range(1, 13))


def test_the_first_row_leads_group_one_and_differences_are_to_it(page):
    first, *others = page["boards"][0]["rows"]
    assert (first["group"], first["difference"], first["p"]) == (1, None, None)
    for row in others:
        assert row["difference"] == pytest.approx(row["accuracy"] - first["accuracy"], abs=0.011)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert all((row["p"] < 0.05) == (row["group"] > 1) for row in others)


def test_every_row_lies_within_its_interval(page):
    rows = page["boards"][0]["rows"] + page["references"]
    assert len(rows) == 17
    assert all(row["low"] < row["accuracy"] < row["high"] for row in rows)


def test_boards_are_never_mixed():
    sample = Synthetic(operators=("ties",), negation=False)
    experts = {m: [f"expert-{m}-{t}-0" for t in TASKS] for m in METHODS}
    sample.addition("att", "emr", 0, experts["att"], 0.95, board="task-id")
    page = boards.build(*sample.tables())
    assert [(b["board"], len(b["rows"]), b["rows"][0]["rank"]) for b in page["boards"]] == [
        ("validation-tuned", 4, 1),
        ("task-id", 1, 1),
    ]
    assert page["boards"][1]["rows"][0]["accuracy"] > page["boards"][0]["rows"][0]["accuracy"]


def test_an_incomplete_row_is_shown_last_without_mean_or_rank():
    page = boards.build(*without(Synthetic(), "addition-att+orthoreg-ties-2", "birds"))
    rows = page["boards"][0]["rows"]
    assert len(rows) == 12
    last = rows[-1]
    assert (last["name"], last["complete"], last["rank"], last["group"]) == ("att+orthoreg/ties", "2/3", None, None)
    assert last["accuracy"] is last["normalised"] is last["low"] is None
    assert last["by_task"]["birds"] is None
    assert last["by_task"]["cars"] > 0
    assert any("1 incomplete rows" in note for note in page["notes"])
    table = views.table(rows, columns.BOARD)
    assert "| –   | –       | `att+orthoreg/ties`" in table
    assert "2/3" in table


def test_a_board_with_one_row_is_an_honest_board():
    page = boards.build(*Synthetic(methods=("att",), operators=("ties",), seeds=(0,)).tables())
    (row,) = page["boards"][0]["rows"]
    assert (row["rank"], row["group"], row["difference"]) == (1, 1, None)
    assert row["normalised_common"] is None
    assert page["effects"] == []


def test_too_few_seeds_to_know_their_variance_are_said():
    few, enough = (
        boards.build(*Synthetic(methods=("att",), operators=("ties",), seeds=seeds).tables())["notes"]
        for seeds in ((0, 1), (0, 1, 2))
    )
    assert [note for note in few if "variance between seeds is not in them" in note]
    assert enough == []


def test_experts_without_any_merge_are_references_without_a_board():
    page = boards.build(*Synthetic(operators=(), negation=False).tables())
    assert page["boards"] == []
    assert [row["name"] for row in page["references"]] == ["zero-shot", *(f"{m}/expert" for m in sorted(METHODS))]
    assert "No merged models have been measured yet." in page["notes"]


def test_rows_without_bits_have_no_interval_and_cannot_be_told_apart():
    rows, cells = Synthetic(methods=("att", "att+orthoreg"), operators=("ties",), seeds=(0,)).tables()
    blank = rows.set_column(
        rows.schema.get_field_index("bits"), SCHEMA.field("bits"), pa.array([b""] * len(rows), pa.binary())
    )
    page = boards.build(blank, cells)
    assert page["effects"] == []
    found = page["boards"][0]["rows"]
    assert [(row["low"], row["group"], row["p"]) for row in found] == [(None, 1, None)] * 2


def test_negation_rows_have_their_own_table(page):
    sample = Synthetic()
    by_hand = {}
    for record in sample.records:
        for row in record.rows:
            if row["kind"] == "negation" and row["finetuning"] == "att":
                by_hand.setdefault(row["task"] == "shapes", []).append(row["correct"] / row["total"])
    assert [len(v) for v in by_hand.values()] == [9, 9]
    found = next(row for row in page["negation"] if row["name"] == "att/negation")
    assert found["target"] == frames.percent(sum(by_hand[False]) / 9)
    control = sum(by_hand[True]) / 9
    assert found["control"] == frames.percent(control)
    for bound in (found["control_low"] / 100, found["control_high"] / 100):  # Wilson: (p - b)^2 = z^2 b (1 - b) / n
        assert (control - bound) ** 2 == pytest.approx(1.96**2 * bound * (1 - bound) / IMAGES["shapes"], rel=1e-2)
    assert found["control_low"] < found["control"] < found["control_high"]
    targets = [row["target"] for row in page["negation"]]
    assert targets == sorted(targets)
    assert found["target_zero_shot"] == next(r for r in page["references"] if r["name"] == "zero-shot")["accuracy"]


def test_the_interval_of_a_negation_is_that_of_its_targets_over_images_and_seeds(page):
    lines = collect.collect(*Synthetic().tables())
    assert lines.seed_prior(lines.negation[0], (0, 1, 2), paired=False) is None  # four rows say too little
    outcomes = {m: {t: np.zeros((3, IMAGES[t]), np.int8) for t in lines.tasks} for m in METHODS}
    for record in Synthetic().records:
        for row in record.rows:
            if row["kind"] == "negation" and row["task"] in TASKS:
                outcomes[row["finetuning"]][row["task"]][row["seed"]] = unpack_bits(row["bits"], row["total"])
    rows = page["negation"]
    by_hand = stats.estimates([[outcomes[row["finetuning"]][task] for task in lines.tasks] for row in rows])
    for row, estimate in zip(rows, by_hand, strict=True):
        assert row["target"] == frames.percent(estimate.value)
        assert (row["low"], row["high"]) == (frames.percent(estimate.low), frames.percent(estimate.high))
        assert row["low"] < row["target"] < row["high"]


def test_negations_are_ranked_by_the_lowest_target_and_told_apart_like_merges(page):
    first, *others = page["negation"]
    assert [row["rank"] for row in page["negation"]] == [1, 2, 3, 4]
    assert (first["group"], first["difference"], first["p"]) == (1, None, None)
    for row in others:
        assert row["difference"] == pytest.approx(row["target"] - first["target"], abs=0.011)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
        assert (row["p"] < 0.05) == (row["group"] > 1)
    assert len({row["group"] for row in page["negation"]}) > 1


def test_negations_have_their_own_variance_between_seeds():
    rng = np.random.default_rng(3)
    lines = collect.collect(*Synthetic(methods=[f"m{i}" for i in range(6)], operators=("ties",)).tables())
    for line in lines.negation:
        for seed in line.seeds:
            line.rates[seed] = [int(rng.integers(200, 400)) / 1000 for _ in line.tasks]
    means = [[mean_accuracy(line.accuracies(seed)) for line in lines.negation] for seed in (0, 1, 2)]
    for paired in (True, False):
        own = lines.seed_prior(lines.negation[0], (0, 1, 2), paired=paired)
        assert own == stats.seed_prior(means, paired=paired)
        assert own.variance > 2 * lines.seed_prior(lines.addition[0], (0, 1, 2), paired=paired).variance


def test_an_incomplete_negation_is_last_and_not_ranked():
    page = boards.build(*without(Synthetic(), "negation-att-birds-1", "birds"))
    assert [row["rank"] for row in page["negation"]] == [1, 2, 3, None]
    last = page["negation"][-1]
    assert (last["name"], last["complete"], last["target"], last["low"]) == ("att/negation", "2/3", None, None)


def test_the_effect_of_a_regularizer_is_with_minus_without(page):
    (effect,) = page["effects"]
    assert (effect["regulariser"], effect["methods"], effect["operators"]) == (
        "orthoreg",
        ["att", "nonlinear"],
        sorted(OPERATORS),
    )
    accuracy = {row["name"]: row["accuracy"] for row in page["boards"][0]["rows"]}
    assert len(effect["cells"]) == 6
    for cell in effect["cells"]:
        plain, regular = f"{cell['method']}/{cell['operator']}", f"{cell['method']}+orthoreg/{cell['operator']}"
        assert cell["difference"] == pytest.approx(accuracy[regular] - accuracy[plain], abs=0.011)
        assert cell["significant"] == (cell["p"] < 0.05)


def test_coefficient_curves_and_geometry_stand_beside_the_boards():
    sample = Synthetic(seeds=(0, 1), methods=("att",), operators=("ties",))
    for seed in (0, 1):
        cosine = [[1.0, 0.1 + seed * 0.2, 0.0], [0.1 + seed * 0.2, 1.0, -0.3], [0.0, -0.3, 1.0]]
        metrics = {"tasks": list(TASKS), "cosine": cosine, "norms": [1.0, 2.0, 3.0]}
        sample.add(f"geometry-{seed}", [], metrics, kind="geometry", finetuning="att", seed=seed)
        sample.subset("att", "ties", seed, TASKS[:2], 0.6)
    page = boards.build(*sample.tables())
    (heat,) = page["geometry"]
    assert heat["cosine"][0] == [1.0, 0.2, 0.0]
    assert heat["mean"] == pytest.approx((0.2 + 0.0 + 0.3) / 3, abs=0.001)
    assert [x for x, _ in page["curves"][0]["curves"]["att"]] == [0.0, 0.25, 0.5]
    assert any("2 further results merge fewer tasks" in note for note in page["notes"])


def line_of(markdown: str, name: str, column: str) -> str:
    """The line of a table that starts with `name`, in the first table that has the column."""
    table = markdown[markdown.index(f"| {column}") :] if f"| {column}" in markdown else ""
    return next(line for line in table.splitlines() if line.startswith(f"| {name}"))


def test_post_hoc_and_disentanglement_have_their_own_views():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    experts = [f"expert-att-{task}-0" for task in TASKS]
    merged = {"finetuning": "att", "operator": "ties", "seed": 0, "tasks": "+".join(TASKS), "scaling": 0.3}
    same = {"finetuning": "att", "operator": "ties", "options": "{}", "seed": 0, "coefficients": list(GRID)}
    alone = [sample.row("posthoc", task, 0.8, finetuning="att", seed=0, scaling=1.0) for task in TASKS]
    linear = [sample.row("posthoc", task, 0.6, **merged) for task in TASKS]
    sample.add("posthoc", alone + linear, experts=experts, **same)
    for pair, error in enumerate(([[0.0, 0.2], [0.4, 0.6]], [[0.0, 0.4], [0.0, 1.0]])):
        metrics = {"tasks": list(TASKS[:2]), "coefficients": [0.0, 1.0], "error": error}
        sample.add(
            f"pair-{pair}", [], metrics, kind="disentangle", finetuning="att", mode="", seed=pair, experts=experts[:2]
        )
    page = boards.build(*sample.tables())
    (row,) = page["posthoc"]
    mean = sum(r["correct"] / r["total"] for r in linear) / 3
    own = sum(r["correct"] / r["total"] * e["total"] / e["correct"] for r, e in zip(linear, alone, strict=True)) / 3
    assert row["normalised"] == frames.percent(own)
    assert row["normalised_common"] is None  # no plain nonlinear experts here
    assert (row["name"], row["accuracy"]) == ("att/ties", frames.percent(mean))
    (square,) = page["disentanglement"]
    assert (square["error"], square["searched_error"]) == ([[0.0, 0.3], [0.2, 0.8]], 0.325)
    found = html.page(page)
    for name in ("posthoc", "disentanglement"):
        assert found.count(f'id="{name}"') == 1
    markdown = "\n".join(text.suite(page))
    assert boards.POSTHOC in markdown
    plain = page["boards"][0]["rows"][0]["accuracy"]
    assert [c.strip() for c in line_of(markdown, "`att/ties`", "linearised").split("|")[1:-1]] == [
        "`att/ties`", text.number(row["accuracy"]), text.interval(row["low"], row["high"]),
        text.number(row["normalised"]), "–", text.number(plain), "0.3", "3/3", "1",
    ]  # fmt: skip
    assert "0.325" in line_of(markdown, "`att`", "mean error")


def test_rows_of_several_recipes_are_explained():
    sample = Synthetic(seeds=(0,), methods=("nonlinear", "att"), operators=("ties",))
    assert not any("hex digits" in note for note in boards.build(*sample.tables())["notes"])
    fixed = {"finetuning": "nonlinear", "seed": 0}
    others = [
        sample.add(
            f"other-{t}", [sample.row("expert", t, 0.7, scaling=1.0, **fixed)], task=t, recipe={"lr": 2}, **fixed
        )
        for t in TASKS
    ]
    merged = next(record for record in sample.records if record.key == "addition-nonlinear-ties-0")
    sample.add("again", list(merged.rows), **{**merged.identity, "experts": others})
    page = boards.build(*sample.tables())
    assert sum("hex digits" in note for note in page["notes"]) == 1
    rows = {row["name"]: row for row in page["boards"][0]["rows"]}
    assert len(rows) == 3
    assert rows["att/ties"]["normalised_common"] is None


def test_sources_name_machine_and_commits_once():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    for place, record in enumerate(sample.records):
        record.provenance["commit"] = f"c{place % 2}"
    assert boards.build(*sample.tables())["sources"] == ["nowhere, cpu, bench 0.0, commits c0 c1"]


def test_the_command_of_a_row_repeats_its_sweep():
    for protocol, end in {
        "validation:normalised": "--seeds 1 --sweep whole",
        "validation:normalised:coarse-to-fine": "--seeds 1",
        "fixed": "--seeds 1",
    }.items():
        sample = Synthetic(seeds=(0,), methods=("att",), operators=())
        experts = [f"expert-att-{task}-0" for task in TASKS]
        sample.addition("att", "ties", 0, experts, 0.8, protocol=protocol)
        (board,) = boards.build(*sample.tables())["boards"]
        (row,) = board["rows"]
        assert row["command"] == f"bench run --grid all --suite toy --methods att --operators ties {end}"
