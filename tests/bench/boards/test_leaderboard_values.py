"""Numbers of the leaderboard against the stored integers, each worked out a second time."""

import json

import pytest
from samples import IMAGES, METHODS, OPERATORS, TASKS, Synthetic

from bench.boards import boards
from bench.store.records import unpack_bits
from bench.tables import collect, frames


@pytest.fixture(scope="module")
def sample():
    found = Synthetic()
    # experts of a task that nobody merges, and validation rows that are better than anything on test
    for method in METHODS:
        common = {"finetuning": method, "seed": 0, "scaling": 1.0}
        rows = [found.row("expert", "shapes", 0.99, split=split, **common) for split in ("validation", "test")]
        found.add(f"expert-{method}-shapes-0", rows, task="shapes", finetuning=method, seed=0, recipe={"lr": 1})
    return found


@pytest.fixture(scope="module")
def page(sample):
    return boards.build(*sample.tables())


@pytest.fixture(scope="module")
def ranked(page):
    (board,) = page["boards"]
    return {row["name"]: row for row in board["rows"]}


def rates(sample, kind, finetuning="", operator=""):
    """{(seed, task): accuracy on test}"""
    return {
        (row["seed"], row["task"]): row["correct"] / row["total"]
        for record in sample.records
        for row in record.rows
        if (row["kind"], row["finetuning"], row["operator"]) == (kind, finetuning, operator) and row["split"] == "test"
    }


def mean(values):
    return sum(values) / len(values)


def test_accuracy_is_a_mean_over_tasks_and_seeds_and_so_are_its_parts(sample, ranked):
    for name, row in ranked.items():
        found = rates(sample, "addition", *name.split("/"))
        assert len(found) == 9
        assert row["accuracy"] == frames.percent(mean(found.values()))
        assert row["by_task"] == {t: frames.percent(mean([found[s, t] for s in (0, 1, 2)])) for t in TASKS}
        assert row["by_seed"] == {str(s): frames.percent(mean([found[s, t] for t in TASKS])) for s in (0, 1, 2)}


def test_normalised_accuracies_divide_by_the_right_experts_of_the_same_seed(sample, ranked):
    for name, row in ranked.items():
        found = rates(sample, "addition", *name.split("/"))
        own, common = (rates(sample, "expert", m) for m in (name.split("/")[0], "nonlinear"))
        assert row["normalised"] == frames.percent(mean([found[at] / own[at] for at in found]))
        assert row["normalised_common"] == frames.percent(mean([found[at] / common[at] for at in found]))


def test_references_are_over_the_tasks_of_the_board_alone(sample, page):
    rows = {row["name"]: row for row in page["references"]}
    assert rows.keys() == {"zero-shot", *(f"{m}/expert" for m in METHODS)}
    for method in METHODS:
        found = {at: rate for at, rate in rates(sample, "expert", method).items() if at[1] in TASKS}
        assert len(found) == 9
        assert rows[f"{method}/expert"]["accuracy"] == frames.percent(mean(found.values()))
        assert rows[f"{method}/expert"]["normalised"] == 100.0
    zero = rates(sample, "zeroshot")
    assert rows["zero-shot"]["accuracy"] == frames.percent(mean([zero[-1, task] for task in TASKS]))
    assert rows["zero-shot"]["by_task"].keys() == set(TASKS)


def by_holm(p_values):
    """The k-th smallest of n times n - k, never below a smaller one's, at most 1."""
    found, floor = {}, 0.0
    for k, (p, name) in enumerate(sorted((p, name) for name, p in p_values.items())):
        floor = max(floor, min(1.0, p * (len(p_values) - k)))
        found[name] = floor
    return found


@pytest.mark.parametrize("skill", [None, dict.fromkeys(("att/ties", "att/average", "nonlinear/ties"), 0.68)])
def test_p_values_are_holms_over_the_rows_of_the_board(skill):
    sample = Synthetic(skill=skill)
    (board,) = boards.build(*sample.tables())["boards"]
    lines = collect.collect(*sample.tables())
    first, *others = board["rows"]
    pairs = [(lines.find(row["name"]), lines.find(first["name"])) for row in others]
    raw = {one.name: found.p for (one, _), found in zip(pairs, lines.differences(pairs), strict=True)}
    adjusted = by_holm(raw)
    assert {row["name"]: row["p"] for row in others} == {name: round(p, 4) for name, p in adjusted.items()}
    if skill:
        assert any(round(raw[name], 4) != row["p"] for name, row in ((r["name"], r) for r in others))


def test_p_values_of_a_regularizers_effect_are_holms_over_its_map(sample, page):
    lines = collect.collect(*sample.tables())
    (effect,) = page["effects"]
    at = {(c["method"], c["operator"]): c for c in effect["cells"]}
    assert at.keys() == {(m, o) for m in ("nonlinear", "att") for o in OPERATORS}
    pairs = [(lines.find(f"{m}+orthoreg/{o}"), lines.find(f"{m}/{o}")) for m, o in at]
    raw = dict(zip(at, (found.p for found in lines.differences(pairs)), strict=True))
    assert {where: cell["p"] for where, cell in at.items()} == {w: round(p, 4) for w, p in by_holm(raw).items()}


def test_a_difference_is_of_the_same_images_and_seeds(sample, page, ranked):
    first, second = page["boards"][0]["rows"][:2]
    bits = {
        (row["finetuning"], row["operator"], row["seed"], row["task"]): unpack_bits(row["bits"], row["total"])
        for record in sample.records
        for row in record.rows
        if row["kind"] == "addition" and row["split"] == "test"
    }
    one, other = (row["name"].split("/") for row in (second, first))
    gaps = [
        (bits[*one, seed, task].astype(int) - bits[*other, seed, task].astype(int)).mean()
        for seed in (0, 1, 2)
        for task in TASKS
    ]
    assert second["difference"] == frames.percent(mean(gaps))


def test_a_row_names_its_cells_its_experts_its_price_and_its_coefficient(sample, ranked):
    seconds = {record.key: record.provenance["seconds"] for record in sample.records}
    row = ranked["att/ties"]
    assert row["keys"] == [f"addition-att-ties-{seed}" for seed in (0, 1, 2)]
    assert row["experts"] == sorted(f"expert-att-{task}-{seed}" for task in TASKS for seed in (0, 1, 2))
    assert row["seconds"] == round(mean([seconds[key] for key in row["keys"]]), 1)
    of_experts = [sum(seconds[f"expert-att-{task}-{seed}"] for task in TASKS) for seed in (0, 1, 2)]
    assert row["expert_seconds"] == round(mean(of_experts), 1)
    assert (row["scaling"], row["seeds"], row["complete"]) == ("0.25", [0, 1, 2], "3/3")
    assert (row["board"], row["protocol"]) == ("validation-tuned", "validation:normalised")


def test_intervals_of_tasks_are_wilsons_over_their_own_images(ranked):
    row = ranked["att/ties"]
    for task, (low, high) in row["by_task_interval"].items():
        rate = row["by_task"][task] / 100
        for bound in (low / 100, high / 100):
            assert (rate - bound) ** 2 == pytest.approx(1.96**2 * bound * (1 - bound) / IMAGES[task], rel=2e-2)


def test_boards_come_from_the_least_seen_to_the_most():
    sample = Synthetic(methods=("att",), operators=(), seeds=(0,), negation=False)
    experts = [f"expert-att-{task}-0" for task in TASKS]
    seen = ("task-id", "unlabelled-test", "calibration", "validation-tuned", "data-free")
    for board in seen:
        sample.addition("att", f"on_{board}", 0, experts, 0.6, board=board)
    page = boards.build(*sample.tables())
    assert [board["board"] for board in page["boards"]] == list(reversed(seen))
    assert [[row["rank"] for row in board["rows"]] for board in page["boards"]] == [[1]] * 5


def test_curves_are_of_validation(sample, page):
    by_hand = {}
    for record in sample.records:
        for row in record.rows:
            if (row["kind"], row["split"], row["finetuning"], row["operator"]) == (
                "addition",
                "validation",
                "att",
                "ties",
            ):
                by_hand.setdefault(row["scaling"], []).append(row["correct"] / row["total"])
    curve = next(entry for entry in page["curves"] if entry["operator"] == "ties")["curves"]["att"]
    assert curve == [[scaling, frames.percent(mean(values))] for scaling, values in sorted(by_hand.items())]


def test_points_over_lambda_are_in_percent_and_chosen_on_validation():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    for strength, skill in ((0.0, 0.4), (1.0, 0.6), (3.0, 0.5)):
        sample.strength("att+orthoreg", "ties", 0, strength, skill)
    (entry,) = boards.build(*sample.tables())["strengths"]
    of = {
        json.loads(r.rows[0]["options"])["strength"]: [row for row in r.rows if row["split"] == "validation"]
        for r in sample.records
        if r.rows and r.rows[0]["kind"] == "strength"
    }
    by_hand = {s: mean([row["correct"] / row["total"] for row in rows]) for s, rows in of.items()}
    assert {p["strength"]: p["validation"] for p in entry["curve"]} == {
        s: frames.percent(v) for s, v in by_hand.items()
    }
    assert entry["chosen"] == max(by_hand, key=by_hand.get) == 1.0


def test_a_negation_stands_beside_the_pretrained_model_on_targets_and_control(sample, page):
    zero = rates(sample, "zeroshot")
    assert len(page["negation"]) == len(METHODS)
    for row in page["negation"]:
        assert row["control_zero_shot"] == frames.percent(zero[-1, "shapes"])
        assert row["target_zero_shot"] == frames.percent(mean([zero[-1, task] for task in TASKS]))
