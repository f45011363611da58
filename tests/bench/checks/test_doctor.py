"""`bench doctor`, check by check, with machines made up by hand."""

import json
import os
from collections import namedtuple

import pytest

from bench.checks import doctor
from bench.checks.doctor import Finding, compare
from bench.cli.app import call
from bench.store.store import Store

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def test_a_full_disk_and_a_small_shared_memory(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda where: Usage(0, 0, 64 * 2**20))
    levels = {f.said.split()[0]: f.level for f in doctor.disk("store")}
    assert levels == {"cache": "problem", "scratch": "problem", "store": "problem"}
    (found,) = doctor.shared_memory()
    assert (found.level, found.said) == ("problem", "/dev/shm: 64 MiB free")
    assert "--shm-size" in found.remedy


def test_enough_of_both(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda where: Usage(0, 0, 10 * 2**30))
    assert {f.level for f in [*doctor.disk("store"), *doctor.shared_memory()]} == {"ok"}
    assert len(doctor.disk("s3://bucket/run")) == 2


def test_the_store_is_written_listed_and_left_clean(tmp_path):
    store = Store(tmp_path / "store")
    (found,) = doctor.reach(str(tmp_path / "store"))
    assert found.level == "ok"
    assert store.failed() == set()
    assert doctor.reach(str(tmp_path / "new"))[0].said.endswith("the first run creates it")
    assert not (tmp_path / "new").exists()


def test_a_store_of_another_version_is_a_problem(tmp_path):
    Store(tmp_path / "store")
    (tmp_path / "store" / "bench-store.json").write_text('{"format": "bench-store", "version": 99}')
    (found,) = doctor.reach(str(tmp_path / "store"))
    assert found.level == "problem"
    assert "has version 99" in found.said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_is_a_problem(tmp_path):
    Store(tmp_path / "store")
    (tmp_path / "store").chmod(0o500)
    assert doctor.reach(str(tmp_path / "store"))[0].level == "problem"


ALL_WELL = "n1: same versions, store reachable, clock agrees"


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ({}, [("ok", ALL_WELL)]),
        ({"versions": {"python": "3.12.1", "torch": "2.6.0"}}, [("problem", "n1: torch 2.6.0 (here 2.9.0)")]),
        ({"shared": False}, [("problem", "n1: has another folder where the store is")]),
        ({"findings": [Finding("disk", "problem", "full", "free some")]}, [("problem", "n1: full")]),
        ({"findings": [Finding("disk", "ok", "12 GiB free")]}, [("ok", ALL_WELL)]),
        ({"time": 1120.0}, [("warning", "n1: its clock is 119 s off")]),
        ({"time": 1003.0}, [("ok", ALL_WELL)]),
        ({"time": 900.0, "shared": False},
         [("problem", "n1: has another folder where the store is"), ("warning", "n1: its clock is 100 s off")]),
    ],
)  # fmt: skip
def test_nodes_by_hand(theirs, expected):
    ours = {"python": "3.12.1", "torch": "2.9.0"}
    answer = {"versions": ours, "time": 1000.5, "shared": True, "findings": [], **theirs}
    found = compare("n1", ours, answer, sent=1000.0, received=1001.0)
    assert [(f.level, f.said) for f in found] == expected
    assert all(bool(f.remedy) == (f.level != "ok") for f in found)


def test_a_node_shares_the_folder_of_a_store_that_is_not_there_yet(tmp_path):
    """The probe lies in the nearest folder that exists, and nothing is left of it."""
    store = str(tmp_path / "a" / "store")
    with doctor._probe(store) as probe:
        assert os.path.dirname(probe) == str(tmp_path)
        assert doctor._look(probe, None)["shared"]
        os.unlink(probe)
        assert not doctor._look(probe, None)["shared"]
    with doctor._probe(store) as probe:
        pass
    assert list(tmp_path.iterdir()) == []
    with doctor._probe("s3://bucket/run") as probe:
        assert doctor._look(probe, None)["shared"]


def test_bytecode_is_only_a_warning_where_packages_are_not_compiled(monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    assert doctor.bytecode() == []


def test_the_verb(capsys, monkeypatch):
    assert call(["doctor", "--json"]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert {"packages", "disk", "store", "inputs"} <= {f["check"] for f in found}
    monkeypatch.setattr(doctor, "examine", lambda *a, **k: [Finding("disk", "problem", "full", "empty it")])
    assert call(["doctor"]) == 1
    assert capsys.readouterr().out == "problem disk: full\n          do: empty it\n"
