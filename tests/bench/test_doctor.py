"""`bench doctor`, check by check, with machines made up by hand."""

import json
import os
from collections import namedtuple

import pytest

from bench import doctor
from bench.cli.app import call
from bench.doctor import Finding, compare
from bench.store import Store

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


@pytest.mark.parametrize(
    ("theirs", "level", "said"),
    [
        ({}, "ok", "n1: same versions, store reachable, clock agrees"),
        ({"torch": "2.6.0"}, "problem", "n1: torch 2.6.0 (here 2.9.0)"),
        ({"store": "no store at /shared"}, "problem", "n1: no store at /shared"),
        ({"time": 1120.0}, "warning", "n1: its clock is 119 s off"),
        ({"time": 1003.0}, "ok", "n1: same versions, store reachable, clock agrees"),
        ({"time": 900.0}, "warning", "n1: its clock is 100 s off"),
    ],
)
def test_nodes_by_hand(theirs, level, said):
    ours = {"python": "3.12.1", "torch": "2.9.0", "time": 0.0}
    answer = {**ours, "time": 1000.5, "store": "", **theirs}
    found = compare("n1", ours, answer, sent=1000.0, received=1001.0)
    assert (found.level, found.said) == (level, said)
    assert bool(found.remedy) == (level != "ok")


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
