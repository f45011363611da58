"""Joining, writing and checking results; every planted contradiction must be found."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import Synthetic

from bench.errors import BenchError, StoreError
from bench.store import results
from bench.store.records import CELLS, SCHEMA, Record, pack_bits
from bench.store.store import Store


@pytest.fixture
def sample():
    return Synthetic(seeds=(0,), methods=("nonlinear", "att"), operators=("ties",))


@pytest.fixture
def store(sample, tmp_path):
    return sample.fill(Store(tmp_path / "store"))


def test_a_store_and_the_folder_written_from_it_hold_the_same(store, sample, tmp_path):
    rows, cells = results.load(store)
    results.write(tmp_path / "lb" / "toy", rows, cells)
    for source in (tmp_path / "lb" / "toy", str(tmp_path / "store")):
        again, about = results.load(source)
        assert sorted(again.to_pylist(), key=str) == sorted(rows.to_pylist(), key=str)
        assert about.sort_by("key").to_pylist() == cells.sort_by("key").to_pylist()
    assert rows.num_rows == sum(len(r.rows) for r in sample.records)
    assert results.load(tmp_path / "lb", "toy")[0].num_rows == rows.num_rows


def test_written_twice_in_any_order_gives_the_same_bytes(store, tmp_path):
    rows, cells = results.load(store)
    backwards = [t.take(list(range(t.num_rows))[::-1]) for t in (rows, cells)]
    first, second = results.write(tmp_path / "a", rows, cells), results.write(tmp_path / "b", *backwards)
    assert [p.name for p in first] == ["results.parquet", "cells.parquet"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_folder_of_results_is_read_by_its_suite(tmp_path):
    for suite in ("toy", "other"):
        results.write(tmp_path / suite, *Synthetic(suite=suite, seeds=(0,), methods=("att",)).tables())
    assert results.suites_in(results.load(tmp_path, "other")[0]) == ["other"]
    with pytest.raises(BenchError, match=r"results of 2 suites \(other, toy\); name one with --suite"):
        results.load(tmp_path)
    with pytest.raises(BenchError, match="no suite here named 'toi'; did you mean 'toy'"):
        results.load(tmp_path, "toi")
    (tmp_path / "other" / "results.parquet").unlink()
    assert results.suites_in(results.load(tmp_path)[0]) == ["toy"]


def test_loading_one_suite_leaves_the_other_out(store):
    for record in Synthetic(suite="other", seeds=(0,), methods=("att",), operators=("ties",)).records:
        store.write(replace(record, key=f"other-{record.key}"))
    rows, cells = results.load(store, "other")
    assert results.suites_in(rows) == ["other"]
    assert all(key.startswith("other-") for key in cells["key"].to_pylist())
    assert results.suites_in(results.load(store)[0]) == ["other", "toy"]


def test_nothing_there_is_one_clear_line(tmp_path):
    with pytest.raises(StoreError, match="no store at"):
        results.load(tmp_path / "nowhere")


def test_a_truncated_file_is_named(store, tmp_path):
    path = results.write(tmp_path / "lb", *results.load(store))[0]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StoreError, match=r"results\.parquet cannot be read"):
        results.load(tmp_path / "lb")


def test_another_schema_version_is_refused(store, tmp_path):
    path = results.write(tmp_path / "lb", *results.load(store))[0]
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"bench_schema": b"99"}), path)
    with pytest.raises(StoreError, match="has version 99"):
        results.load(tmp_path / "lb")
    pq.write_table(table.drop_columns(["bits"]), path)
    with pytest.raises(StoreError, match="does not hold the columns"):
        results.load(tmp_path / "lb")


def test_merging_adds_what_is_new_and_keeps_what_agrees(sample, store, tmp_path):
    other = Store(tmp_path / "other")
    for record in sample.records[:3]:
        other.write(record)
    new = replace(sample.records[0], key="new")
    other.write(new)
    other.write_vector("new", b"weights")
    assert results.merge_stores(store, other) == {"added": 1, "already": 3, "vectors": 1}
    assert store.read("new").rows == new.rows
    assert store.read_vector("new") == b"weights"
    assert results.merge_stores(store, other) == {"added": 0, "already": 4, "vectors": 0}


def test_a_conflict_is_reported_with_its_size_and_nothing_is_written(sample, store, tmp_path):
    other = Store(tmp_path / "other")
    old = sample.records[0]
    rows = [dict(row) for row in old.rows]
    wrong = rows[1]["correct"] - 9  # 9 of 90 birds are 10 points
    rows[1] |= {"correct": wrong, "bits": pack_bits([True] * wrong + [False] * (90 - wrong))}
    other.write(replace(old, rows=tuple(rows)))
    other.write(replace(old, key="new"))
    before = store.done()
    with pytest.raises(BenchError, match=r"1 of 1 shared cells .*zeroshot: 1 of 4 rows differ, by up to 10\.00 points"):
        results.merge_stores(store, other)
    assert store.done() == before
    assert store.read(old.key).rows == old.rows


def test_other_metrics_or_other_rows_conflict_too_but_provenance_does_not(sample, store, tmp_path):
    old = sample.records[0]
    for changed, said in (
        (replace(old, metrics={"norm": 2.0}), "same rows, other metrics"),
        (replace(old, rows=old.rows[:2]), "4 rows here, 2 there"),
    ):
        other = Store(tmp_path / said.replace(" ", ""))
        other.write(changed)
        with pytest.raises(BenchError, match=said):
            results.merge_stores(store, other)
    other = Store(tmp_path / "elsewhere")
    other.write(replace(old, provenance={"host": "elsewhere"}))
    assert results.merge_stores(store, other)["already"] == 1


def test_a_sweep_that_stopped_early_agrees_with_a_whole_one_and_the_first_stays(sample, store, tmp_path):
    whole = next(r for r in sample.records if any(row["split"] == "validation" and row["scaling"] for row in r.rows))
    stopped = sorted({row["scaling"] for row in whole.rows if row["split"] == "validation"})[:1]
    rows = tuple(row for row in whole.rows if row["split"] == "test" or row["scaling"] not in stopped)
    assert 0 < len(rows) < len(whole.rows)
    part = replace(whole, rows=rows, metrics={**whole.metrics, "pruned": stopped})
    other = Store(tmp_path / "other")
    other.write(part)
    assert results.merge_stores(store, other)["already"] == 1
    assert len(store.read(whole.key).rows) == len(whole.rows)
    unsaid = Store(tmp_path / "unsaid")
    unsaid.write(replace(whole, rows=rows))
    with pytest.raises(BenchError, match="rows here"):
        results.merge_stores(store, unsaid)


def test_a_sweep_that_stopped_early_hides_no_contradiction_on_test(sample, store, tmp_path):
    whole = next(r for r in sample.records if r.key == "addition-att-ties-0")
    rows = [dict(row) for row in whole.rows if row["split"] == "test" or row["scaling"] != 0.25]
    tested = next(row for row in rows if row["split"] == "test")
    tested |= {"correct": tested["correct"] - 1, "bits": b""}
    assert tested["scaling"] == 0.25
    other = Store(tmp_path / "other")
    other.write(replace(whole, rows=tuple(rows), metrics={**whole.metrics, "pruned": [0.25]}))
    with pytest.raises(BenchError, match="1 of 1 shared cells have other numbers"):
        results.merge_stores(store, other)


def test_sound_results_have_no_contradictions(store):
    assert results.validate(store) == []


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("correct", 7, "correctness bits sum to"),
        ("correct", 10_000, "10000 correct of"),
        ("correct", -1, "-1 correct of"),
        ("bits", b"\x00", "1 bytes of correctness bits for"),
        ("total", 121, "rows disagree about the number of images, 120 to 121"),
        ("key", "stranger", "stranger: rows without a cell"),
    ],
)
def test_a_planted_contradiction_is_found(store, tmp_path, column, value, said):
    rows, cells = results.load(store)
    lines = rows.to_pylist()
    where = next(i for i, r in enumerate(lines) if r["split"] == "test" and r["task"] == "apples")
    lines[where][column] = value
    results.write(tmp_path / "lb", pa.Table.from_pylist(lines, schema=SCHEMA), cells)
    problems = results.validate(tmp_path / "lb")
    assert any(said in line for line in problems), problems


def test_a_repeated_row_and_a_missing_ancestor_are_found(store, tmp_path):
    rows, cells = results.load(store)
    lines = [line for line in cells.to_pylist() if line["key"] != "expert-att-birds-0"]
    twice = pa.concat_tables([rows, rows.slice(0, 1)])
    results.write(tmp_path / "lb", twice, pa.Table.from_pylist(lines, schema=CELLS))
    problems = results.validate(tmp_path / "lb")
    assert any("is there 2 times" in line for line in problems)
    assert "addition-att-ties-0: made from 1 cells that are not here, first expert-att-birds-0" in problems
    assert any(line.startswith("expert-att-birds-0: rows without a cell") for line in problems)


def test_needs_reads_keys_from_an_identity():
    assert Record("k", {"experts": ["a", "b"], "tasks": ["x"]}).needs == ["a", "b"]
    for damaged in ({}, {"experts": "a"}, {"experts": None}, {"experts": [1, "", None]}):
        assert Record("k", damaged).needs == []
