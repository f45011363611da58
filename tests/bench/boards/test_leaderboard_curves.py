"""Curves over the number of merged tasks and over lambda: what belongs together, what is missing, where it is shown."""

import csv
import io
import re

import numpy as np
import pytest
from samples import TASKS, Synthetic

from bench.boards import boards, columns, html, svg, text, views
from bench.boards import files as leaderboard
from bench.store import results
from bench.tables import frames, subsets

PAIRS = [("apples", "birds"), ("apples", "cars"), ("birds", "cars")]


def sample_of_pairs(left_out=()):
    """Two methods and one operator on every pair of tasks, all three tasks at two seeds."""
    sample = Synthetic(methods=("nonlinear", "att"), operators=("ties",), seeds=(0, 1), negation=False)
    for m, method in enumerate(("nonlinear", "att")):
        for pair in PAIRS:
            if (method, pair) not in left_out:
                sample.subset(method, "ties", 0, pair, 0.6 + 0.1 * m)
    return sample


def rate(sample, key, task):
    (row,) = [r for x in sample.records if x.key == key for r in x.rows if r["task"] == task and r["split"] == "test"]
    return row["correct"] / row["total"]


def test_a_point_by_hand():
    """Means over three pairs at seed 0; all seeds of the whole merge would be another mixture."""
    sample = sample_of_pairs()
    curve = next(c for c in boards.build(*sample.tables())["subsets"] if c["name"] == "att/ties")
    assert (curve["finetuning"], curve["operator"], curve["seeds"]) == ("att", "ties", [0])
    two, three = curve["points"]
    assert [(p["tasks"], p["measured"], p["wanted"]) for p in (two, three)] == [(2, 3, 3), (3, 1, 1)]
    merged = {pair: {t: rate(sample, f"subset-att-ties-{'+'.join(pair)}-0", t) for t in pair} for pair in PAIRS}
    alone = {(m, t): rate(sample, f"expert-{m}-{t}-0", t) for m in ("att", "nonlinear") for t in TASKS}
    mean = np.mean([np.mean(list(by.values())) for by in merged.values()])
    own = np.mean([np.mean([v / alone["att", t] for t, v in by.items()]) for by in merged.values()])
    common = np.mean([np.mean([v / alone["nonlinear", t] for t, v in by.items()]) for by in merged.values()])
    assert two["accuracy"] == frames.percent(mean)
    assert two["normalised"] == frames.percent(own)
    assert two["normalised_common"] == frames.percent(common)
    assert two["low"] < two["accuracy"] < two["high"]


def test_the_interval_of_one_merge_is_that_of_its_bits():
    """One merge of two tasks: variance sum of p(1-p) / n / 4."""
    sample = Synthetic(methods=("att",), operators=("ties",), seeds=(0,), negation=False)
    key = sample.subset("att", "ties", 0, TASKS[:2], 0.6)
    (curve,) = boards.build(*sample.tables())["subsets"]
    point = curve["points"][0]
    a, b = rate(sample, key, "apples"), rate(sample, key, "birds")
    half = 1.959964 * (a * (1 - a) / 120 / 4 + b * (1 - b) / 90 / 4) ** 0.5
    assert point["high"] - point["accuracy"] == pytest.approx(100 * half, abs=0.011)


def test_a_point_that_lacks_a_subset_of_the_others_has_no_mean():
    found = boards.build(*sample_of_pairs(left_out=[("att", PAIRS[1])]).tables())
    whole, part = (next(c for c in found["subsets"] if c["name"] == name) for name in ("nonlinear/ties", "att/ties"))
    assert whole["points"][0]["accuracy"] is not None
    assert part["points"][0] == {
        "tasks": 2, "measured": 2, "wanted": 3, "accuracy": None, "low": None, "high": None, "normalised": None,
        "normalised_common": None,
    }  # fmt: skip
    assert views.subset(part["points"][0], "accuracy") == "2/3"
    assert re.search(r"`att/ties` +\| 2/3 ", "\n".join(text.suite(found)))
    assert "<td>2/3</td>" in html.page(found)


def test_a_size_that_has_just_begun_has_no_mean_yet():
    sample = Synthetic(methods=("att",), operators=("ties",), seeds=(0,), negation=False)
    for task in TASKS:
        sample.subset("att", "ties", 0, (task,), 0.9)
    sample.subset("att", "ties", 0, PAIRS[0], 0.6)
    (curve,) = boards.build(*sample.tables())["subsets"]
    assert [(p["measured"], p["wanted"], p["accuracy"] is None) for p in curve["points"]] == [
        (3, 3, False), (1, 3, True), (1, 1, False),
    ]  # fmt: skip


def test_no_line_is_drawn_across_sizes_that_were_not_measured():
    points = [{"tasks": n, "accuracy": 50.0 + n} for n in (2, 3, 6)]
    drawn = subsets.drawn({"points": points}, "accuracy")
    assert [(p["x"], p["y"]) for p in drawn] == [(2, 52.0), (3, 53.0), (4, None), (5, None), (6, 56.0)]
    dots = [svg.Dot(p["x"], p["y"], "said") for p in drawn]
    chart = svg.trend([("s0", dots)], "t", "x", [(n, str(n)) for n in (2, 3, 6)])
    assert [len(line.split()) for line in re.findall(r'polyline points="([^"]*)"', chart)] == [2, 1]
    assert chart.count("<circle") == 3
    assert svg.trend([("s0", [svg.Dot(1, None)])], "t", "x", [(1, "1")]) == ""


def test_a_curve_mixes_neither_seeds_nor_ways_nor_recipes():
    sample = Synthetic(seeds=(0, 1), methods=("att",), operators=("ties",))  # all three tasks, both seeds
    sample.subset("att", "ties", 0, TASKS[:2], 0.9)
    sample.subset("att", "ties", 0, TASKS[:2], 0.9, coefficients=[0.0, 1.0])
    others = [sample.add(f"other-{t}", [sample.row("expert", t, 0.9)], task=t, recipe={"lr": 2}) for t in TASKS]
    sample.subset("att", "ties", 0, TASKS[:2], 0.5, experts=others[:2])
    (curve,) = boards.build(*sample.tables())["subsets"]  # the others have one size only: no curve
    assert [(p["tasks"], p["measured"]) for p in curve["points"]] == [(2, 1), (3, 1)]
    assert curve["seeds"] == [0]
    assert curve["points"][0]["accuracy"] > 80
    sample.subset("att", "ties", 0, TASKS[1:], 0.5, experts=others[1:])
    sample.subset("att", "ties", 0, TASKS, 0.5, experts=others)
    names = [curve["name"] for curve in boards.build(*sample.tables())["subsets"]]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"att/ties\[[0-9a-f]{4}\]", name) for name in names)


def test_a_method_with_subsets_only_is_drawn_too():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    for task in TASKS:
        sample.expert("lora", task, 0, 0.8)
    for size in (1, 2):
        sample.subset("lora", "ties", 0, TASKS[:size], 0.6)
    page = boards.build(*sample.tables())
    assert [entry["name"] for entry in page["subsets"]] == ["lora/ties"]
    assert "lora/ties" not in {row["name"] for row in page["boards"][0]["rows"]}
    assert "lora/ties, 2 tasks: " in html.page(page)


def sample_of_strengths():
    sample = sample_of_pairs()
    for strength, skill in ((0.0, 0.4), (0.1, 0.5), (1.0, 0.8)):
        sample.strength("att+orthoreg", "ties", 0, strength, skill)
    return sample


def test_lambda_is_shown_with_its_choice_and_price():
    page = boards.build(*sample_of_strengths().tables())
    (curve,) = page["strengths"]
    assert (curve["name"], curve["chosen"], curve["measured"], curve["declared"]) == ("att+orthoreg/ties", 1.0, 3, 7)
    assert curve["search_seconds"] > curve["chosen_seconds"] > 0
    first, *_, last = (columns.number(p["test"]) for p in curve["curve"])
    ratio = f"{curve['search_seconds'] / curve['chosen_seconds']:.1f} x"
    (line,) = [line for line in views.strengths(page["strengths"]).splitlines() if line.startswith("| `att+")]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert (cells[1], cells[3], cells[4], cells[-1]) == (first, f"**{last}**", "3/7", ratio)
    drawn = html.page(page).split('id="lambda"')[1]
    assert drawn.count('class="chosen"') == 1
    assert f'<td class="sure">{last}</td>' in drawn


def test_curves_of_two_recipes_have_two_names():
    sample = sample_of_strengths()
    sample.strength("att+orthoreg", "ties", 0, 1.0, 0.3, batch=7)
    names = [curve["name"] for curve in boards.build(*sample.tables())["strengths"]]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"att\+orthoreg/ties\[[0-9a-f]{4}\]", name) for name in names)


@pytest.fixture
def folder(tmp_path):
    results.write(tmp_path / "toy", *sample_of_strengths().tables())
    leaderboard.build(None, None, tmp_path)
    return tmp_path


def test_values_are_equal_in_csv_markdown_and_page(folder):
    page = leaderboard.table(folder / "toy", "toy")
    shown = {name: (folder / name).read_text(encoding="utf-8") for name in ("README.md", "toy/index.html")}
    lines = list(csv.DictReader(io.StringIO((folder / "toy/subsets.csv").read_text(encoding="utf-8"))))
    assert len(lines) == 4
    points = [(entry["name"], point) for entry in page["subsets"] for point in entry["points"]]
    for (name, point), line in zip(points, lines, strict=True):
        assert (line["name"], line["tasks"], line["subsets"]) == (name, str(point["tasks"]), views_of(point))
        assert line["seeds"] == "0"
        for value in ("accuracy", "low", "high", "normalised", "normalised_common"):
            assert line[value] == f"{point[value]:.2f}"
        assert all(line["accuracy"] in content and line["normalised"] in content for content in shown.values())
    lines = list(csv.DictReader(io.StringIO((folder / "toy/lambda.csv").read_text(encoding="utf-8"))))
    assert [(line["lambda"], line["chosen"]) for line in lines] == [("0", ""), ("0.1", ""), ("1", "chosen")]
    for line in lines:
        assert all(line["test"] in content for content in shown.values())


def views_of(point):
    return f"{point['measured']}/{point['wanted']}"


def test_check_compares_the_pictures_and_files_of_curves_and_names_stale_ones(folder):
    assert leaderboard.check(folder) == []
    picture = folder / "toy/subsets.svg"
    before = picture.read_bytes()
    picture.write_bytes(re.sub(rb"digest:.", b"digest:x", before))
    assert leaderboard.check(folder) == ["toy/subsets.svg shows other numbers than the Parquet files"]
    picture.write_bytes(before)
    results.write(folder / "toy", *Synthetic(methods=("att",), negation=False).tables())
    problems = leaderboard.check(folder)
    for name in ("subsets.csv", "subsets.svg", "lambda.csv", "lambda.svg"):
        assert f"toy/{name} has no results behind it" in problems
    leaderboard.build(None, None, folder)
    assert leaderboard.check(folder) == []
    assert not picture.exists()
