"""`bench verify` over a real run of two tasks: what is the same, what was planted, what is missing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.checks.verify import Change, Recorded, Scratch, Verdict, changes, judge, verify
from bench.cli.app import call
from bench.errors import BenchError, DataError, UnknownName, Unwritable
from bench.kinds import from_identity
from bench.kinds.imported import Imported
from bench.store import results
from bench.store.records import Record, pack_bits, unpack_bits
from bench.store.store import Store
from bench.work.runtime import How

ROW = "nonlinear/task_arithmetic"


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_of(rows, split: str = "test") -> list:
    return [r for r in rows if r["split"] == split]


def test_a_row_comes_out_the_same_and_its_store_is_untouched(measured):
    before = files(measured)
    recorded = Recorded.open(str(measured))
    (key,) = recorded.keys(ROW)
    (verdict,) = verify(recorded, [key])
    assert (verdict.key, verdict.cell, verdict.same) == (key, f"{ROW} seed 0", True)
    assert (verdict.changes, dict(verdict.metrics)) == ((), {})
    assert verdict.images == sum(r["total"] for r in rows_of(Store(measured).read(key).rows)) > 1000
    assert files(measured) == before


def test_a_sweep_that_stopped_early_agrees_with_a_whole_one(measured):
    """Whichever of the two is in the record; rows of coefficients that won are compared."""
    recorded = Recorded.open(str(measured))
    (key,) = recorded.keys(ROW)
    (verdict,) = verify(recorded, [key], how=How(prune=True))
    assert (verdict.same, verdict.changes, dict(verdict.metrics)) == (True, (), {})

    whole = Store(measured).read(key)
    stopped = [0.0, 0.05]
    rows = [r for r in whole.rows if r["split"] == "test" or r["scaling"] not in stopped]
    assert 0 < len(rows) < len(whole.rows)
    part = Record(key, whole.identity, tuple(rows), {**whole.metrics, "pruned": stopped}, whole.provenance)
    cell = from_identity(dict(whole.identity))
    assert judge(cell, part, whole).same
    assert judge(cell, whole, part).same
    lost = Record(key, whole.identity, tuple(rows[1:]), {**whole.metrics, "pruned": stopped}, whole.provenance)
    assert not judge(cell, lost, whole).same


def test_experts_are_trained_again_before_the_merge(measured):
    before = files(measured)
    recorded = Recorded.open(str(measured))
    found = list(verify(recorded, recorded.keys(ROW), experts=True))
    assert [v.cell for v in found] == ["nonlinear digits seed 0", "nonlinear numbers seed 0", f"{ROW} seed 0"]
    assert [(v.same, dict(v.metrics)) for v in found] == [(True, {})] * 3  # metrics hold the sha256 of the vector
    assert files(measured) == before


def test_the_committed_form_of_results_is_enough_with_experts(measured, tmp_path):
    folder = tmp_path / "published"
    results.write(folder, *results.load(str(measured)))
    recorded = Recorded.open(str(folder))
    keys = recorded.keys(ROW)
    with pytest.raises(BenchError, match=r"2 of 2 task vectors are not in .*published, first that of nonlinear digits"):
        list(verify(recorded, keys))
    assert [v.same for v in verify(recorded, keys, experts=True)] == [True] * 3


def judged(measured: Path, change) -> tuple[str, Record, Verdict]:
    """Key, record and verdict of the merge, had it been measured as `change` says."""
    (key,) = Recorded.open(str(measured)).keys(ROW)
    truth = Store(measured).read(key)
    rows, metrics = [dict(r) for r in truth.rows], dict(truth.metrics)
    change(rows, metrics)
    recorded = Record(key, truth.identity, tuple(rows), metrics, truth.provenance)
    return key, truth, judge(from_identity(dict(truth.identity)), recorded, truth)


def test_two_images_that_changed_sides_are_found_though_the_count_is_the_same(measured):
    def swap(rows, metrics):
        row = rows_of(rows)[0]
        right = unpack_bits(row["bits"], row["total"])
        places = [np.flatnonzero(right == value)[0] for value in (True, False)]
        right[places] = ~right[places]
        row["bits"] = pack_bits(right)

    key, truth, verdict = judged(measured, swap)
    row = rows_of(truth.rows)[0]
    assert verdict.changes == (Change("digits", "test", row["scaling"], row["correct"], row["correct"], 2),)
    assert (
        f"differs  {ROW} seed 0 ({key}): digits 2 images ({row['correct']} -> {row['correct']} right)" == verdict.text
    )


def test_a_validation_count_and_a_metric(measured):
    def raise_one(rows, metrics):
        rows_of(rows, "validation")[0]["correct"] -= 3
        metrics["merged_norm"] = 0.0

    key, _, verdict = judged(measured, raise_one)
    assert [(c.split, c.here - c.recorded, c.images) for c in verdict.changes] == [("validation", 3, 3)]
    assert list(verdict.metrics) == ["merged_norm"]
    assert verdict.text == f"differs  {ROW} seed 0 ({key}): 1 validation count"


def test_metrics_decide_only_where_there_is_nothing_else(measured):
    _, _, verdict = judged(measured, lambda rows, metrics: metrics.update(merged_norm=0.0))
    assert verdict.same
    assert verdict.text.endswith("metrics differ: merged_norm")
    alone = replace(verdict, images=0)
    assert not alone.same
    assert alone.text.endswith("): metrics differ: merged_norm")


ROW_OF = {
    "kind": "addition", "finetuning": "att", "operator": "ties", "tasks": "a+b", "task": "a", "split": "test",
    "seed": 0, "scaling": 0.5, "selected": True, "correct": 2, "total": 4, "bits": pack_bits([1, 1, 0, 0]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("other", "change", "text"),
    [
        ({}, None, ""),
        ({"correct": 1, "bits": pack_bits([1, 0, 0, 0])}, (2, 1, 1), "a 1 image (2 -> 1 right)"),
        ({"bits": pack_bits([0, 0, 1, 1])}, (2, 2, 4), "a 4 images (2 -> 2 right)"),
        ({"scaling": 0.75}, (2, 2, 0), "a 0 images (2 -> 2 right; scaling 0.5 -> 0.75)"),
        ({"total": 3, "bits": pack_bits([1, 1, 0])}, (2, 2, 1), "a has 3 images here, 4 in the record"),
        ({"task": "b"}, (2, 0, 4), "a only in the record"),
    ],
)
def test_changes_by_hand(other, change, text):
    found = list(changes([ROW_OF], [{**ROW_OF, **other}]))
    assert [(c.recorded, c.here, c.images) for c in found[:1]] == ([change] if change else [])
    assert [c.text for c in found[:1]] == ([text] if text else [])


def test_a_missing_vector_says_what_to_do(store):
    recorded = Recorded.open(str(store))
    keys = recorded.keys(ROW)
    lost = recorded.record(keys[0]).identity["experts"][1]
    (store / "vectors" / f"{lost}.safetensors").unlink()
    with pytest.raises(BenchError, match=rf"1 of 2 task vectors .*nonlinear numbers seed 0 \({lost}\); give --experts"):
        list(verify(recorded, keys))


def test_a_damaged_vector_is_named_where_it_is(store):
    recorded = Recorded.open(str(store))
    keys = recorded.keys(ROW)
    path = store / "vectors" / f"{recorded.record(keys[0]).identity['experts'][0]}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=rf"task vector {path} is damaged"):
        list(verify(recorded, keys))


def test_a_full_temporary_folder_is_not_taken_for_the_store(store, monkeypatch):
    recorded = Recorded.open(str(store))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.store.files.atomic.write", full)
    with pytest.raises(Unwritable, match=r"cannot write to the temporary folder .*; free space or set TMPDIR"):
        Scratch(str(store), recorded).put("x", b"")


def test_a_record_under_another_name_and_one_of_another_version(store):
    recorded = Recorded.open(str(store))
    (key,) = recorded.keys(ROW)
    record = recorded.record(key)
    Store(store).write(Record(key, {**record.identity, "seed": 5}, record.rows, record.metrics, record.provenance))
    with pytest.raises(BenchError, match=rf"record {key} holds the identity of "):
        list(verify(Recorded.open(str(store)), [key]))
    older = Store(store).read(key)
    cell = from_identity({**record.identity, "version": 99})
    Store(store).write(Record(cell.key, cell.identity, older.rows, older.metrics, older.provenance))
    with pytest.raises(BenchError, match="was measured by version 99 of its method, here is version"):
        list(verify(Recorded.open(str(store)), [cell.key]))
    cell = from_identity({**record.identity, "operator": "quorum"})
    Store(store).write(Record(cell.key, cell.identity, older.rows, older.metrics, older.provenance))
    with pytest.raises(BenchError, match="quorum seed 0: operator quorum is not here; give its file with --include"):
        list(verify(Recorded.open(str(store)), [cell.key]))


def test_a_published_expert_is_evaluated_again_and_never_trained(store):
    """Its vector is the one of the expert that was trained here; so are its counts."""
    own = next(r for r in Store(store).read_all() if r.identity["kind"] == "expert" and r.identity["task"] == "digits")
    shared = {n: own.identity[n] for n in ("suite", "backbone", "backbone_fingerprint", "task", "card", "method")}
    cell = Imported(**shared, regularizer="", seed=0, family="somewhere", sha256="00")
    about = {"source": "a file", "format": "vector", "notes": [], "vector_sha256": own.metrics["vector_sha256"]}
    Store(store).write_vector(cell.key, Store(store).read_vector(own.key))
    Store(store).write_import(cell.key, {**about, "identity": cell.identity})
    rows = tuple({**row, "finetuning": cell.finetuning} for row in own.rows)
    Store(store).write(Record(cell.key, cell.identity, rows, about))
    (verdict,) = verify(Recorded.open(str(store)), [cell.key], experts=True)
    assert (verdict.cell, verdict.same, dict(verdict.metrics)) == ("nonlinear:somewhere digits seed 0", True, {})
    (store / "vectors" / f"{cell.key}.safetensors").unlink()
    with pytest.raises(BenchError, match="bring the published file in with `bench import`"):
        list(verify(Recorded.open(str(store)), [cell.key], experts=True))


def test_rows_seeds_and_keys(measured):
    recorded = Recorded.open(str(measured))
    assert len(recorded.keys("nonlinear/expert")) == 2
    (zero,) = recorded.keys("zero-shot", [0])
    assert recorded.keys(zero) == recorded.keys(zero[:8]) == [zero]
    with pytest.raises(BenchError, match=r"0 cells in .* have a key that begins with 00ff00ff; give all of it"):
        recorded.keys("00ff00ff")
    with pytest.raises(UnknownName, match="no row named 'nonlinear/task_arithmetc'; did you mean"):
        recorded.keys("nonlinear/task_arithmetc")
    with pytest.raises(BenchError, match=r"has no seed 3 in .*; it has 0$"):
        recorded.keys(ROW, [0, 3])


def test_the_verb(store, capsys, monkeypatch):
    monkeypatch.chdir(store.parent)
    assert call(["verify", "zero-shot"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("same     zero-shot (")
    assert out.endswith("zero-shot: 1 cell run again, all as in store\n")
    (key,) = Recorded.open("store").keys("zero-shot")
    record = Store(store).read(key)
    rows = [r | {"bits": b"\0" * len(r["bits"])} for r in record.rows]
    Store(store).write(Record(key, record.identity, tuple(rows), record.metrics, record.provenance))
    assert call(["verify", "zero-shot", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["row"], found["store"], found["same"]) == ("zero-shot", "store", False)
    (cell,) = found["cells"]
    assert [c["task"] for c in cell["changes"]] == ["digits", "numbers", "shapes"]
    assert all(c["images"] == c["recorded"] == c["here"] > 0 for c in cell["changes"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["verify", "zero-shoot"], "bench verify: no row named 'zero-shoot'; did you mean 'zero-shot'?"),
        (["verify", ROW, "--seed", "4"], f"bench verify: row {ROW} has no seed 4 in store; it has 0"),
        (["verify", "zero-shot", "--suite", "mini9"], "bench verify: no suite in these results named"),
        (["verify", "zero-shot", "--store", "empty"], "bench verify: no results here yet; run `bench run` first"),
        (["verify", "zero-shot", "--store", "none"], "bench verify: no store at none; run `bench run` first"),
        (["verify", "zero-shot", "--store", "other"], "bench verify: store other has version 99, this bench reads"),
    ],
)
def test_bad_requests_are_one_line(measured, tmp_path, monkeypatch, refused, words, line):
    monkeypatch.chdir(tmp_path)
    Path("store").symlink_to(measured)
    Store("empty")
    Store("other")
    Path("other/bench-store.json").write_text('{"format": "bench-store", "version": 99}')
    assert refused(*words).startswith(line)
