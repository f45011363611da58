"""What is garbage and what is not, on a disk and behind S3; what a killed writer leaves really is found."""

import json
import os
import time
from pathlib import Path

import pytest

from bench.checks import garbage
from bench.cli.app import call
from bench.errors import BenchError
from bench.store.records import Record
from bench.store.store import Store
from bench.work import resume


def littered(store: Store) -> dict[str, str]:
    """Fill a store with one of everything; path -> why it is garbage."""
    for key in ("ab01", "ab02"):
        store.write_vector(key, b"vector " + key.encode())
        store.write(Record(key, {"kind": "toy"}))
    store.write_vector("cd01", b"orphan")
    store.write_vector("ef01", b"published")
    store.write_import("ef01", {"source": "somewhere"})
    for key in ("ab01", "cd01"):
        store.write_failure(key, {"error": "boom"})
    return {"vectors/cd01.safetensors": garbage.VECTOR, "failed/ab01.json": garbage.FAILURE}


def leave(folder: Path, path: str, content: bytes = b"half") -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


@pytest.fixture
def local(tmp_path: Path) -> tuple[Store, dict[str, str]]:
    store = Store(tmp_path / "store")
    found = littered(store)
    more = {
        "records/ab/.ab03.parquet.123.0123abcd": garbage.TEMPORARY,
        "checkpoints/.cd02.safetensors.9.00000000": garbage.TEMPORARY,
        "checkpoints/ab02.safetensors": garbage.CHECKPOINT,
        "parts/ffff.rows.parquet": garbage.PART,
    }
    for path in more:
        leave(tmp_path / "store", path)
    for path in (  # none of it garbage: still wanted, or not ours
        "checkpoints/cd02.safetensors",
        "parts/eeee.rows.parquet",
        "parts/eeee.cells.parquet",
        "vectors/README.txt",
        "vectors/notes.safetensors",
        ".gitignore",
        "records/.nfs000012",
        "mine/ab01.json",
    ):
        leave(tmp_path / "store", path)
    return store, found | more


def test_every_kind_is_found_and_nothing_else(local):
    store, expected = local
    found = garbage.find(store, hours=0)
    assert {g.path: g.why for g in found.old} == expected
    assert found.young == 0
    assert found.size == sum((Path(store.url) / path).stat().st_size for path in expected)


def test_what_is_young_stays(local):
    store, expected = local
    assert garbage.find(store) == garbage.Sweep((), len(expected))
    old = time.time() - 25 * 3600
    os.utime(Path(store.url) / "vectors/cd01.safetensors", (old, old))
    found = garbage.find(store)
    assert [g.path for g in found.old] == ["vectors/cd01.safetensors"]
    assert found.young == len(expected) - 1
    with pytest.raises(BenchError, match="--older-than is -1; give hours"):
        garbage.find(store, hours=-1)


def test_what_changed_since_it_was_found_stays(local):
    store, expected = local
    found = garbage.find(store, hours=0)
    store.write_vector("cd01", b"trained again")
    gone = {g.path for g in found.old if g.remove(store)}
    assert gone == expected.keys() - {"vectors/cd01.safetensors"}
    assert store.read_vector("cd01") == b"trained again"
    assert [g.path for g in garbage.find(store, hours=0).old] == ["vectors/cd01.safetensors"]


def test_the_verb_lists_first_and_deletes_when_told(local, capsys, monkeypatch):
    store, expected = local
    monkeypatch.chdir(Path(store.url).parent)
    before = store.files()
    assert call(["results", "gc", "--older-than", "0"]) == 0
    out = capsys.readouterr().out
    assert all(path in out for path in expected)
    assert f"{len(expected)} files, 39 B that no record needs; `bench results gc --delete` removes them" in out
    assert store.files() == before
    assert call(["results", "gc", "--delete"]) == 0
    assert capsys.readouterr().out == (
        f"removed 0 files, 0 B\n{len(expected)} younger than 24 h stay: a running driver may need them\n"
    )
    assert store.files() == before
    assert call(["results", "gc", "--older-than", "0", "--delete", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {f["path"]: f["why"] for f in found["files"] if f["removed"]} == expected
    assert {f.path for f in before} - {f.path for f in store.files()} == set(expected)
    assert store.done() == {"ab01", "ab02"}
    assert call(["results", "gc", "--older-than", "0"]) == 0
    assert capsys.readouterr().out == "0 files, 0 B that no record needs\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--store", "none"], "bench results gc: no store at none; run `bench run` first"),
        (["--store", "other"], "bench results gc: store other has version 99, this bench reads version 1"),
        (["--older-than", "-2"], "bench results gc: --older-than is -2; give hours, 0 or more"),
    ],
)
def test_bad_requests_are_one_line(tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    Store("store")
    Store("other")
    Path("other/bench-store.json").write_text('{"format": "bench-store", "version": 99}')
    assert call(["results", "gc", *words]) == 2
    assert capsys.readouterr().err.startswith(line)


def test_nothing_that_is_younger_than_a_living_run_is_old(local):
    """However short the limit: a driver that is alive may be about to write the record of any vector."""
    store, expected = local
    plan = {"command": "", "folder": "", "cells": {}, "pid": 1, "started_at": time.time() - 100, "began": "1"}
    beat = {"message": "", "running": [], "left_seconds": None, "ended": ""}
    store.put("runs/aa.plan.json", json.dumps({**plan, "host": "elsewhere", "machine": "another"}).encode())
    store.put("runs/aa.beat.json", json.dumps(beat).encode())
    old = time.time() - 200
    os.utime(Path(store.url) / "vectors/cd01.safetensors", (old, old))
    found = garbage.find(store, hours=0)
    assert [g.path for g in found.old] == ["vectors/cd01.safetensors"]
    assert found.young == len(expected) - 1
    store.put("runs/aa.beat.json", json.dumps({**beat, "ended": "interrupted"}).encode())
    found = garbage.find(store, hours=0)
    runs = {f"runs/aa.{what}.json": garbage.RUN for what in ("plan", "beat")}
    assert {g.path: g.why for g in found.old} == expected | runs


def test_training_states_of_a_url_are_in_this_nodes_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    local, remote = resume.folder(str(tmp_path / "store")), resume.folder("s3://bucket/store")
    assert local == tmp_path / "store" / "checkpoints"
    assert remote.parent == tmp_path / "cache" / "checkpoints"
    assert remote != resume.folder("s3://bucket/other")
