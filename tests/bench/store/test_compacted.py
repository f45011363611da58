"""Compacted stores say exactly what their record files say, whatever happened to these since."""

import os
from pathlib import Path

import pytest
from damage import examples
from hypothesis import given
from hypothesis import strategies as st
from test_store import ROW

from bench.errors import StoreError
from bench.store import compacted
from bench.store.records import CELLS, SCHEMA, Record
from bench.store.store import Store


@pytest.fixture(autouse=True)
def small_parts_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacted, "PAYS", 0)


def record(number: int, version: int = 0) -> Record:
    """`number` rows, so that records of none, one and many rows meet."""
    rows = tuple(dict(ROW, scaling=float(i), seed=version) for i in range(number % 4))
    return Record(f"{number:02x}aa", {"kind": "expert", "n": number}, rows, {"v": version}, {"seconds": 1.5})


def truth(store: Store, monkeypatch: pytest.MonkeyPatch):
    """What the files say, with parts out of sight."""
    with monkeypatch.context() as patch:
        patch.setattr(compacted, "PAYS", 10**9)
        return store.tables()


def test_a_compacted_store_reads_the_same_and_opens_no_record(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path / "s")
    for number in range(12):
        store.write(record(number))
    before = truth(store, monkeypatch)
    found = store.compact(settled=0)
    assert (found["records"], found["young"]) == (12, 0)
    assert store.done() == {record(n).key for n in range(12)}, "records stay where they are"

    def never(self, key, decode):
        raise AssertionError(f"{key} was opened")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_read_record", never)
        rows, cells = store.tables()
    assert rows.equals(before[0])
    assert cells.equals(before[1])
    assert rows.schema.equals(SCHEMA, check_metadata=True)
    assert cells.schema.equals(CELLS, check_metadata=True)
    assert store.tables(["05aa", "02aa"])[1]["key"].to_pylist() == ["02aa", "05aa"]


WRITE, DELETE, COMPACT = "write", "delete", "compact"
STEPS = st.lists(st.tuples(st.sampled_from((WRITE, WRITE, DELETE, COMPACT)), st.integers(0, 9)), max_size=25)


@examples(40)
@given(STEPS)
def test_any_history_reads_as_its_record_files(tmp_path_factory, steps) -> None:
    store = Store(tmp_path_factory.mktemp("history"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compacted, "PAYS", 0)
        for turn, (step, number) in enumerate(steps):
            path = Path(store.url, "records", f"{number:02x}", f"{number:02x}aa.parquet")
            if step == WRITE:
                store.write(record(number, version=turn))
            elif step == DELETE:
                path.unlink(missing_ok=True)
            else:
                store.compact(settled=0)
            rows, cells = store.tables()
            expected = truth(store, patch)
            assert rows.equals(expected[0])
            assert cells.equals(expected[1])
        assert len(list(Path(store.url).glob("parts/*"))) <= 2


def test_a_record_written_again_with_the_same_size_is_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record(5, version=1))
    store.compact(settled=0)
    before = store._stamps()["05aa"]
    store.write(record(5, version=2))
    assert store._stamps()["05aa"].size == before.size
    assert store.tables()[0]["seed"].to_pylist() == [2]


def test_records_of_the_last_seconds_wait_for_the_next_part(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record(1))
    old = tmp_path / "records" / "01" / "01aa.parquet"
    os.utime(old, (1e9, 1e9))
    store.write(record(2))
    found = store.compact()
    assert (found["records"], found["young"]) == (1, 1)
    assert store.tables()[1]["key"].to_pylist() == ["01aa", "02aa"]


def test_a_part_that_was_cut_short_is_never_seen(tmp_path: Path, monkeypatch) -> None:
    """Killed between its two files: the rows lie there, nobody opens them, and the next one removes them."""
    store = Store(tmp_path)
    store.write(record(3))
    write = Store._write

    def killed(self, path, data):
        if path.endswith(compacted.LINES):
            raise KeyboardInterrupt
        write(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            store.compact(settled=0)
    assert store._parts() == set()
    assert len(store.tables()[0]) == 3
    store.write(record(2))
    store.compact(settled=0)
    assert len(list((tmp_path / "parts").iterdir())) == 2
    assert len(store.tables()[0]) == 5


def test_a_part_replaced_while_it_is_read_gives_way_to_the_records(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path)
    store.write(record(3))
    store.compact(settled=0)
    monkeypatch.setattr(Store, "_parts", lambda self: {"0" * 20})
    assert len(store.tables()[0]) == 3


@pytest.mark.parametrize("ending", [compacted.ROWS, compacted.LINES])
@pytest.mark.parametrize("damage", [b"", b"PAR1 but not really", "foreign"])
def test_a_damaged_part_is_one_line_that_says_nothing_is_lost(tmp_path: Path, ending: str, damage) -> None:
    store = Store(tmp_path)
    store.write(record(3))
    store.compact(settled=0)
    (path,) = tmp_path.glob(f"parts/*{ending}")
    if damage == "foreign":
        store.write(record(2))
        (own,) = tmp_path.glob("records/02/*")
        damage = own.read_bytes()
    path.write_bytes(damage)
    with pytest.raises(StoreError, match=r"part .* cannot be read .* delete both its files, nothing is lost") as caught:
        store.tables()
    assert "\n" not in str(caught.value)
    for other in tmp_path.glob("parts/*"):
        other.unlink()
    assert len(store.tables()[0]) >= 3
