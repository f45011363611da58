"""The store behind a real S3 protocol server on loopback: the same guarantees as on a disk."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import fakes
import pyarrow.fs as pafs
import pytest
from stores import bucket_url

from bench.checks import garbage
from bench.checks.verify import Recorded, verify
from bench.cli import summary
from bench.driver import execute, heartbeat
from bench.errors import StoreError
from bench.store import compacted, results
from bench.store.records import Record
from bench.store.store import Store
from bench.work import resume
from bench.work.runtime import How


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """A bucket of its own for each test."""
    return bucket_url(server, request.node.name.replace("_", "-").lower()[:60])


def record(key: str, **metrics: float) -> Record:
    return Record(key, {"kind": "toy"}, metrics=metrics)


def test_round_trip(url: str) -> None:
    store = Store(url)
    store.write(record("ab12", loss=0.5))
    store.write_vector("ab12", b"tensors")
    again = Store(url, create=False)
    assert again.done() == {"ab12"}
    assert again.read("ab12") == record("ab12", loss=0.5)
    assert again.has_vector("ab12")
    assert not again.has_vector("cd34")
    assert again.read_vector("ab12") == b"tensors"


def test_failures_come_and_go(url: str) -> None:
    store = Store(url)
    store.write_failure("ab12", {"error": "boom"})
    assert store.failed() == {"ab12"}
    assert store.read_failure("ab12") == {"error": "boom"}
    store.write(record("ab12"))
    assert store.failed() == set()


def test_the_keys_of_a_url_stay_out_of_messages_and_of_failures(url: str) -> None:
    """A failure is read by everybody who may read the store; its line may name the store."""
    store = Store(url)
    assert "secret" in store.address
    assert store.url == url.replace("key:secret@", "")
    with pytest.raises(StoreError, match="is missing from s3://") as missing:
        store.read_vector("cd34")
    assert "secret" not in str(missing.value)
    assert Store(store.address, create=False).done() == set()


def test_a_missing_store_and_a_missing_vector_are_one_line(url: str) -> None:
    with pytest.raises(StoreError, match="no store at"):
        Store(url, create=False)
    with pytest.raises(StoreError, match="task vector ab12 is missing"):
        Store(url).read_vector("ab12")


def test_a_store_that_is_not_there_yet_is_empty_to_plan_and_run(url: str) -> None:
    cells = fakes.smoke()
    assert summary.opened(url) is None
    assert sum(counts["pending"] for counts in summary.by_kind(cells, set(), set()).values()) == len(cells)
    Store(url).write(record(cells[0].key))
    store = summary.opened(url)
    assert store is not None
    assert store.done() == {cells[0].key}


def test_an_unfinished_upload_is_never_seen(url: str) -> None:
    store = Store(url)
    fs, root = pafs.FileSystem.from_uri(url)
    stream = fs.open_output_stream(f"{root}/records/ab/ab12.parquet")
    stream.write(b"half a record" * 1000)
    assert store.done() == set()
    stream.close()
    assert store.done() == {"ab12"}


def test_two_workers_that_finish_one_cell_leave_one_record(url: str) -> None:
    stores = [Store(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda store: store.write(record("ab12", loss=0.5)), stores * 5))
    assert stores[0].done() == {"ab12"}
    assert stores[0].read("ab12").metrics == {"loss": 0.5}


def test_a_run_and_its_resumption(url: str) -> None:
    store = Store(url)
    for trouble in ({"nonlinear digits seed 0": "raise"}, {}):
        state = execute.schedule(fakes.smoke(), store)
        session = partial(fakes.FakeSession, url, trouble)
        execute.run(state, store, session, How(local=True))
    assert state.before == 6
    assert store.done() == {cell.key for cell in fakes.smoke()}
    rows, cells = results.load(url)
    assert (len(rows), len(cells)) == (0, 9)


def test_two_stores_join(url: str, tmp_path) -> None:
    mine, theirs = Store(url), Store(tmp_path / "theirs")
    mine.write(record("ab12", loss=0.5))
    theirs.write(record("ab12", loss=0.5))
    theirs.write(record("cd34", loss=0.25))
    assert results.merge_stores(mine, theirs) == {"added": 1, "already": 1, "vectors": 0}
    assert mine.done() == {"ab12", "cd34"}


def test_signs_of_life_are_read_behind_a_url(url: str) -> None:
    store, seen = Store(url), []

    class Watched(fakes.FakeSession):
        def attempt(self, cell):
            (run,) = heartbeat.unfinished(Store(url, create=False), store.done())
            seen.append((run.state, len(run.left(store.done()))))
            if len(seen) == 4:
                raise KeyboardInterrupt
            return super().attempt(cell)

    state = execute.schedule(fakes.smoke(), store)
    session = partial(Watched, url)
    with pytest.raises(KeyboardInterrupt):
        execute.run(state, store, session, How(local=True))
    assert seen == [("alive", 9), ("alive", 8), ("alive", 7), ("alive", 6)]
    (run,) = heartbeat.unfinished(store, store.done())
    assert (run.state, len(run.left(store.done()))) == ("interrupted", 6)
    state = execute.schedule(fakes.smoke(), store)
    execute.run(state, store, session, How(local=True))
    assert store.files("runs") == []


def test_garbage_is_found_and_removed(url: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    store = Store(url)
    store.write(record("ab12", loss=0.5))
    for key in ("ab12", "cd34"):
        store.write_vector(key, b"tensors")
    store.write_failure("ab12", {"error": "boom"})
    state = resume.folder(url) / "ab12.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"state")
    assert garbage.find(store).young == 3
    found = garbage.find(store, hours=0)
    assert [(g.path, g.why, g.file.size) for g in found.old] == [
        (str(state), garbage.CHECKPOINT, 5),
        ("failed/ab12.json", garbage.FAILURE, 17),
        ("vectors/cd34.safetensors", garbage.VECTOR, 7),
    ]
    assert all(g.remove(store) for g in found.old)
    assert not state.exists()
    assert [f.path for f in store.files()] == [
        "bench-store.json", "records/ab/ab12.parquet", "vectors/ab12.safetensors"
    ]  # fmt: skip


def test_a_compacted_store_reads_the_same(url: str, monkeypatch) -> None:
    monkeypatch.setattr(compacted, "PAYS", 0)
    store = Store(url)
    for key in ("ab12", "cd34", "ef56"):
        store.write(record(key, loss=0.5))
    before = store.tables()
    assert store.compact(settled=0)["records"] == 3
    assert store.compact(settled=0)["records"] == 3
    assert len(store._parts()) == 1
    for mine, theirs in zip(store.tables(), before, strict=True):
        assert mine.equals(theirs)
    store.write(record("cd34", loss=0.125))
    _, cells = store.tables()
    assert [json.loads(text) for text in cells["metrics"].to_pylist()] == [{"loss": v} for v in (0.5, 0.125, 0.5)]


def test_a_row_is_verified_behind_a_url(url: str, measured) -> None:
    results.merge_stores(Store(url), Store(measured))
    before = Store(url).files()
    recorded = Recorded.open(url)
    (verdict,) = verify(recorded, recorded.keys("nonlinear/task_arithmetic"))
    assert verdict.same
    assert Store(url).files() == before
