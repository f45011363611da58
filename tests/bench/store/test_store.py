import io
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench.errors import StoreError
from bench.store.records import CELL, SCHEMA, Record, pack_bits, unpack_bits
from bench.store.store import Store

ROW = {
    "kind": "expert",
    "suite": "mini8",
    "backbone": "mini",
    "finetuning": "att",
    "operator": "",
    "options": "{}",
    "board": "reference",
    "protocol": "",
    "tasks": "digits",
    "task": "digits",
    "split": "test",
    "seed": 0,
    "scaling": 1.0,
    "selected": True,
    "correct": 2,
    "total": 3,
    "bits": pack_bits([True, False, True]),
}
RECORD = Record("ab12", {"kind": "expert"}, (ROW,), {"loss": 0.5}, {"seconds": 1.0})


def test_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    assert store.done() == set()
    store.write(RECORD)
    assert Store(tmp_path / "s").done() == {"ab12"}
    assert store.read("ab12") == RECORD
    rows, cells = store.tables()
    assert rows.schema.equals(SCHEMA)
    assert rows.to_pylist() == [{"key": "ab12", **ROW}]
    assert json.loads(cells.to_pylist()[0]["metrics"]) == {"loss": 0.5}


def test_bits_by_hand() -> None:
    assert pack_bits([True, False, True]) == b"\xa0"
    assert unpack_bits(b"\xa0", 3).tolist() == [True, False, True]


def test_missing_column_never_reaches_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(KeyError, match="correct"):
        store.write(Record("cd34", {"kind": "expert"}, ({k: v for k, v in ROW.items() if k != "correct"},)))
    assert store.done() == set()


def test_two_writers_leave_one_record_and_no_scratch(tmp_path: Path) -> None:
    for _ in range(2):
        Store(tmp_path).write(RECORD)
    assert [p.name for p in (tmp_path / "records").rglob("*") if p.is_file()] == ["ab12.parquet"]


def test_temporaries_are_never_seen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(RECORD)
    (tmp_path / "records" / "ab" / ".cd34.parquet.1.x").write_bytes(b"half")
    assert store.done() == {"ab12"}


def test_a_failure_that_another_writer_has_just_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(store, "has_failure", lambda key: True)
    store.write(RECORD)
    store.forget_failures(["ab12"])
    assert store.done() == {"ab12"}


def test_success_forgets_the_failure(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_failure("ab12", {"error": "boom", "traceback": "..."})
    assert store.failed() == {"ab12"}
    assert store.read_failure("ab12")["error"] == "boom"
    store.write(RECORD)
    assert store.failed() == set()


@pytest.mark.parametrize("damage", [b"", b"PAR1 but not really", None])
def test_damaged_record_is_named_with_its_remedy(tmp_path: Path, damage: bytes | None) -> None:
    store = Store(tmp_path)
    store.write(RECORD)
    path = tmp_path / "records" / "ab" / "ab12.parquet"
    if damage is None:
        damage = path.read_bytes()[:-20]
    path.write_bytes(damage)
    with pytest.raises(StoreError, match=r"ab12\.parquet cannot be read .* delete it and run again"):
        store.read("ab12")


def test_foreign_parquet_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(RECORD)
    pq.write_table(
        pq.read_table(tmp_path / "records/ab/ab12.parquet", columns=["key"]), tmp_path / "records/ab/ab12.parquet"
    )
    with pytest.raises(StoreError, match="not a record of this version"):
        store.tables()


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bench-store.json").write_text('{"format": "bench-store", "version": 99}')
    with pytest.raises(StoreError, match="version 99, this bench reads version 1"):
        Store(tmp_path)


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="neither empty nor a store"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="no store at"):
        Store(tmp_path / "nowhere", create=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a path that cannot be written")
def test_unwritable_store_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError) as caught:
        Store(blocked / "store")
    assert "\n" not in str(caught.value)


def test_what_results_are_computed_from_is_kept_and_compared(tmp_path: Path) -> None:
    first, second = Store(str(tmp_path / "store")), Store(str(tmp_path / "store"))
    first.agree("svhn-test", "a" * 64)
    second.agree("svhn-test", "a" * 64)
    second.agree("svhn-train", "b" * 64)
    with pytest.raises(StoreError, match=r"svhn-test on this machine \(b{12}\) is not what .* \(a{12}\)"):
        second.agree("svhn-test", "b" * 64)
    first.agree("svhn-test", "a" * 64)


def test_a_header_that_somebody_has_edited_is_refused() -> None:
    """The rows are whole; only what the footer says about them is another text than was written."""
    table = RECORD.table()
    footer = dict(table.schema.metadata)
    edited = footer | {CELL: footer[CELL].replace(b'"loss": 0.5', b'"loss": 0.4')}
    assert edited != footer
    for metadata, right in ((footer, True), (edited, False)):
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), sink)
        if right:
            assert Record.load(RECORD.key, sink.getvalue()) == RECORD
        else:
            with pytest.raises(ValueError, match="its header is not what was written"):
                Record.load(RECORD.key, sink.getvalue())
