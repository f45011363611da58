"""`bench.results` as a notebook uses it: documented columns, and the tables' numbers found again with pandas alone."""

import csv
import io
from math import comb

import pandas as pd
import pyarrow as pa
import pytest
from samples import METHODS, TASKS, Synthetic

from bench.boards import boards, results, spreadsheet
from bench.boards.results import CELLS, EFFECTS, IMAGES, LEADERBOARD, ROWS, Results
from bench.errors import BenchError, UnknownName
from bench.store.store import Store
from bench.tables import compare


@pytest.fixture(scope="module")
def sample():
    made = Synthetic()
    made.inapplicable("att", "slerp", 0, "takes two experts")
    return made


@pytest.fixture(scope="module")
def measured(sample):
    return Results(*sample.tables())


def dtypes(frame):
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def test_columns_and_dtypes_are_those_that_are_documented(measured):
    by_task = {f"accuracy:{task}": "float64" for task in TASKS}
    for frame, documented in (
        (measured.rows, ROWS),
        (measured.cells, CELLS),
        (measured.images, IMAGES),
        (measured.effects(), EFFECTS),
        (measured.leaderboard(), LEADERBOARD | by_task),
    ):
        assert dtypes(frame) == dict(documented)
        assert list(frame.columns) == list(documented)
        assert [name for name in documented if name.partition(":")[0] not in str(Results.__doc__)] == []
    assert measured.cells.index.name == "key"


def test_nothing_measured_has_the_same_columns():
    empty = Results(*Synthetic(methods=(), operators=(), negation=False).tables())
    assert dtypes(empty.effects()) == dict(EFFECTS)
    assert empty.cells["finetuning"].tolist() == [""]


def test_rows_are_the_stored_ones_with_their_accuracy(sample, measured):
    stored = [row for record in sample.records for row in record.rows]
    assert len(measured.rows) == len(stored)
    assert measured.rows["accuracy"].tolist() == [row["correct"] / row["total"] for row in stored]
    regular = measured.rows[measured.rows["finetuning"] == "att+orthoreg"]
    assert {*zip(regular["method"], regular["regularizer"], strict=True)} == {("att", "orthoreg")}


def test_cells_say_how_they_were_made_and_what_they_cost(sample, measured):
    expert = measured.cells.loc["expert-att+orthoreg-birds-1"]
    assert expert[["kind", "method", "regularizer", "tasks", "seed"]].tolist() == [
        "expert", "att", "orthoreg", "birds", 1,
    ]  # fmt: skip
    noted = {record.key: record.provenance["seconds"] for record in sample.records if "seconds" in record.provenance}
    assert measured.cells["seconds"].dropna().to_dict() == noted
    assert measured.cells["reason"].ne("").sum() == 1


def test_a_mean_by_hand_is_that_of_the_leaderboard(measured):
    images = measured.images_of("att/ties")
    assert {*images["name"]} == {"att/ties"}
    by_hand = images.groupby(["seed", "task"], observed=True)["correct"].mean().groupby("seed").mean().mean()
    (row,) = measured.leaderboard().query("name == 'att/ties'").to_dict("records")
    assert row["accuracy"] == pytest.approx(100 * by_hand, abs=0.005)
    assert row["accuracy:birds"] == pytest.approx(100 * images[images["task"] == "birds"]["correct"].mean(), abs=0.005)


def test_mcnemar_by_hand_is_that_of_compare(sample, measured):
    """An image counts for the model that is right on it in more seeds; the p-value is the binomial tail, twice."""
    net = {}
    for name in ("att/ties", "nonlinear/ties"):
        images = measured.images_of(name).query("task == 'cars'")
        net[name] = images.groupby("index")["correct"].sum()
    difference = net["att/ties"] - net["nonlinear/ties"]
    won, lost = int((difference > 0).sum()), int((difference < 0).sum())
    tail = sum(comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
    of_tasks = compare.compare(*sample.tables(), "att/ties", "nonlinear/ties")["tasks"]
    (cars,) = [task for task in of_tasks if task["task"] == "cars"]
    assert (cars["won"], cars["lost"]) == (won, lost)
    assert won + lost > 10
    assert cars["p"] == pytest.approx(min(1, 2 * tail), abs=1e-6)


def test_images_count_to_the_rows_they_come_from(measured):
    counted = measured.images.groupby(["key", "task"], observed=True)["correct"].agg(["sum", "size"])
    tested = measured.rows.query("split == 'test'").set_index(["key", "task"])
    assert counted["sum"].to_dict() == tested["correct"].to_dict()
    assert counted["size"].to_dict() == tested["total"].to_dict()
    key = "addition-att-ties-2"
    assert {*measured.images_of(key)["seed"]} == {2}
    assert measured.images_of(key)["name"].unique().tolist() == ["att/ties"]


def test_the_leaderboard_is_the_csv(sample, measured):
    text = spreadsheet.table(boards.build(*sample.tables()))
    rows = measured.leaderboard().to_dict("records")
    for line, row in zip(csv.DictReader(io.StringIO(text)), rows, strict=True):
        for name, written in line.items():
            value = row[name]
            two_decimals = isinstance(value, float) and name != "p"
            assert written == ("" if pd.isna(value) else f"{value:.2f}" if two_decimals else str(value)), name
    (board,) = {*measured.leaderboard("validation-tuned")["board"]}
    assert board == "validation-tuned"
    assert {*measured.leaderboard("reference")["name"]} == {"zero-shot", *(f"{m}/expert" for m in METHODS)}


def test_effects_are_those_of_the_map(sample, measured):
    (effect,) = boards.build(*sample.tables())["effects"]
    found = measured.effects()[["method", "operator", "difference", "low", "high", "p", "significant"]]
    assert found.to_dict("records") == effect["cells"]


def test_wrong_names_get_the_nearest_one(measured):
    with pytest.raises(UnknownName, match="did you mean 'att/ties'"):
        measured.images_of("att/tie")
    with pytest.raises(UnknownName, match="did you mean 'validation-tuned'"):
        measured.leaderboard("validation-tune")
    with pytest.raises(UnknownName, match="did you mean 'orthoreg'"):
        measured.effects("orthoregg")


def test_a_store_is_read_by_its_path(sample, tmp_path):
    sample.fill(Store(tmp_path / "store"))
    loaded = results.load(tmp_path / "store")
    assert len(loaded.rows) == sum(len(record.rows) for record in sample.records)
    assert "toy" in repr(loaded)


def test_of_several_suites_one_is_named(sample):
    both = [pa.concat_tables(t) for t in zip(sample.tables(), Synthetic(suite="other").tables(), strict=True)]
    assert {*Results(*both).rows["suite"]} == {"toy", "other"}
    with pytest.raises(BenchError, match="2 suites"):
        Results(*both).leaderboard()
