"""An operator that cannot take the experts is shown with its reason wherever its row would stand."""

import csv
import io
import json

import pytest
from samples import Synthetic

from bench.boards import boards, files, html, latex, spreadsheet, text
from bench.cli.app import call
from bench.errors import BenchError
from bench.store import results
from bench.store.store import Store
from bench.tables import collect, compare

REASON = "needs LoRA factors; these experts were fine-tuned without them"
METHODS = ("att", "att+orthoreg", "lora", "lora+orthoreg")


@pytest.fixture(scope="module")
def sample():
    made = Synthetic(methods=METHODS, operators=("ties",), seeds=(0, 1), negation=False)
    for seed in (0, 1):
        for method in METHODS[:2]:
            made.inapplicable(method, "ties@knots", seed, REASON)
            made.inapplicable(method, "ties@knots", seed, REASON, kind="posthoc")
        for method in METHODS[2:]:
            experts = [f"expert-{method}-{task}-{seed}" for task in made.tasks]
            made.addition(method, "ties@knots", seed, experts, 0.7)
    return made


@pytest.fixture(scope="module")
def page(sample):
    return boards.build(*sample.tables())


def test_the_row_stands_last_on_its_board_without_numbers(page):
    (board,) = page["boards"]
    last = board["rows"][-2:]
    assert [(r["name"], r["complete"], r["reason"], r["seeds"]) for r in last] == [
        ("att+orthoreg/ties@knots", "n/a", REASON, [0, 1]),
        ("att/ties@knots", "n/a", REASON, [0, 1]),
    ]
    assert {r[k] for r in last for k in ("rank", "group", "accuracy", "normalised", "p")} == {None}
    assert [r["rank"] for r in board["rows"][:-2]] == [1, 2, 3, 4, 5, 6]
    assert not [note for note in page["notes"] if "incomplete" in note or "Rows have" in note]
    assert {(r["name"], r["reason"]) for r in page["posthoc"]} == {(f"{m}/ties@knots", REASON) for m in METHODS[:2]}


def test_a_board_of_nothing_else_is_shown():
    sample = Synthetic(methods=("att",), operators=("ties",), seeds=(0,))
    sample.inapplicable("att", "average@core", 0, REASON, board="data-free")
    page = boards.build(*sample.tables())
    assert [(b["board"], len(b["rows"])) for b in page["boards"]] == [("data-free", 1), ("validation-tuned", 1)]
    assert REASON in "\n".join(text.suite(page))
    assert REASON in html.page(page)


def test_every_rendering_says_it(page):
    markdown = "\n".join(text.suite(page))
    assert f"* `ties@knots` on `att+orthoreg`, `att`: {REASON}" in markdown
    assert REASON not in text.sections([page], "leaderboards")["leaderboard"]  # five rows, none of them missing
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(spreadsheet.table(page)))}
    assert (rows["att/ties@knots"]["complete"], rows["att/ties@knots"]["reason"]) == ("n/a", REASON)
    assert rows["att/ties@knots"]["accuracy"] == ""
    assert rows["lora/ties@knots"]["reason"] == ""
    (line,) = [row for row in latex.table(page).splitlines() if row.strip().startswith("ties@knots")]
    assert line.count("n/a") == 2
    assert html.page(page).count("Not applicable</h3>") == 2
    assert f"ties@knots {REASON}." in html.page(page)


def test_a_table_that_is_cut_says_so(page):
    row = page["boards"][0]["rows"][0]
    blocks = text._first([row] * 7, 5, "[all of them](x.csv)")
    assert blocks[0].count("\n") == 6
    assert blocks[1] == "The first 5 of 7 rows; [all of them](x.csv), also on the page."
    assert len(text._first([row] * 5, 5, "")) == 1


def test_compare_says_why_there_is_nothing_to_compare(sample):
    found = sample.tables()
    with pytest.raises(BenchError, match="row att/ties@knots does not exist: not applicable, needs LoRA factors"):
        compare.compare(*found, "att/ties@knots", "att/ties")
    result = compare.compare_regularizer(*found, "ties@knots", baseline="ties")
    assert {c["method"] for c in result["comparisons"]} == {"lora"}
    assert result["left_out"] == [
        {"name": name, "reason": f"not applicable, {REASON}"} for name in ("att/ties@knots", "att+orthoreg/ties@knots")
    ]
    assert compare.compare_regularizer(*found, "ties")["left_out"] == []


def test_an_operator_that_fits_nothing_is_not_unknown():
    sample = Synthetic(methods=("att", "att+orthoreg"), operators=("ties",), seeds=(0,), negation=False)
    sample.inapplicable("att", "ties@core", 0, REASON)
    with pytest.raises(BenchError, match="att/ties@core: not applicable, needs LoRA factors"):
        compare.compare_regularizer(*sample.tables(), "ties@core")


def test_it_survives_the_store_and_the_results_folder(sample, page, tmp_path):
    store = sample.fill(Store(str(tmp_path / "store")))
    files.build(store, None, tmp_path / "out")
    assert files.check(tmp_path / "out") == []
    assert boards.build(*results.load(tmp_path / "out" / "toy")) == page
    assert len(collect.collect(*store.tables()).inapplicable) == 4


def test_status_counts_it(sample, tmp_path, capsys):
    sample.fill(Store(str(tmp_path / "store")))
    assert call(["status", "--store", str(tmp_path / "store")]) == 0
    out = capsys.readouterr().out
    assert f"not applicable: ties@knots {REASON} (att, att+orthoreg)" in out
    assert call(["status", "--store", str(tmp_path / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_applicable"] == [
        {"operator": "ties@knots", "reason": f"ties@knots {REASON}", "finetuning": ["att", "att+orthoreg"]}
    ]
