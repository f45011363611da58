"""Whether a run is alive, as another process reads it from the store."""

import json
import os
import time
from functools import partial
from pathlib import Path

import fakes
import pytest

from bench.cli.app import call
from bench.driver import execute, heartbeat
from bench.driver.base import Drive
from bench.driver.heartbeat import Heartbeat
from bench.errors import BenchError
from bench.kinds.protocol import Outcome
from bench.store.store import Store
from bench.work.runtime import How

TOTAL = 9
"""Cells of the smoke grid."""


def go(store: Store, session: type = fakes.FakeSession) -> None:
    state = execute.schedule(fakes.smoke(), store)
    execute.run(state, store, partial(session, store.url), How(local=True), command="bench run --local")


def status(store: Store, capsys: pytest.CaptureFixture[str]) -> dict:
    assert call(["status", "--store", store.url, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_is_alive_while_it_runs_and_leaves_no_sign_when_it_is_over(tmp_path):
    store, seen = Store(tmp_path / "store"), []

    class Watched(fakes.FakeSession):
        def attempt(self, cell):
            (run,) = heartbeat.unfinished(store, store.done())
            seen.append((run.state, run.plan["command"], len(run.left(store.done()))))
            return super().attempt(cell)

    go(store, Watched)
    assert seen == [("alive", "bench run --local", TOTAL - n) for n in range(TOTAL)]
    assert store.files("runs") == []


def test_beats_say_what_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)
    store, seen = Store(tmp_path / "store"), []

    class Slow(fakes.FakeSession):
        def attempt(self, cell):
            end = time.monotonic() + 60
            while not seen or seen[-1]["cell"] != cell.label:
                assert time.monotonic() < end
                (run,) = heartbeat.runs(store)
                seen.extend(run.beat["running"])
                time.sleep(0.01)
            return super().attempt(cell)

    go(store, Slow)
    assert list(dict.fromkeys(s["cell"] for s in seen)) == [cell.label for cell in fakes.smoke()]


def test_kill_9_leaves_a_dead_run_and_the_command_that_goes_on(tmp_path, capsys, monkeypatch):
    where = tmp_path / "store"
    store = Store(where)
    process = fakes.command(where, "--local", trouble={"nonlinear/ties seed 0": "hang"})
    fakes.wait_for(lambda: len(store.done()) == 4, process)
    found = status(store, capsys)
    assert [(r["state"], r["pid"], sum(r["left"].values())) for r in found["runs"]] == [("alive", process.pid, 5)]
    process.kill()
    process.communicate(timeout=60)
    (run,) = status(store, capsys)["runs"]
    assert (run["state"], run["cells"]) == ("dead", TOTAL)
    assert run["left"] == {"zeroshot": 0, "expert": 2, "addition": 3}
    monkeypatch.chdir(tmp_path)
    assert call(["status"]) == 0
    out = capsys.readouterr().out
    assert "store store: 4 cells done, 0 failed\n" in out
    assert f"run dead: process {process.pid} on " in out
    assert " is gone, last heard of " in out
    assert "5 of 9 cells left (2 expert, 3 addition)" in out
    assert f"  to go on: bench run --grid smoke --store {where} --local (in " in out
    second = fakes.command(where, "--local")
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    found = status(store, capsys)
    assert (found["done"], found["failed"], found["runs"]) == (TOTAL, [], [])
    assert store.files("runs") == []


def test_an_interrupted_run_says_so_until_another_does_its_cells(tmp_path, capsys):
    store = Store(tmp_path / "store")

    class Interrupted(fakes.FakeSession):
        def attempt(self, cell):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(store, Interrupted)
    (run,) = status(store, capsys)["runs"]
    assert (run["state"], run["ended"], sum(run["left"].values())) == ("interrupted", "interrupted", TOTAL)
    assert call(["status", "--store", store.url]) == 0
    assert "run interrupted: process " in capsys.readouterr().out

    class Watched(fakes.FakeSession):
        def attempt(self, cell):
            assert [r.state for r in heartbeat.runs(store)] == ["alive"]
            return super().attempt(cell)

    go(store, Watched)
    assert store.files("runs") == []


def test_a_run_that_its_own_error_ended_says_which(tmp_path, capsys):
    store = Store(tmp_path / "store")

    class Full(fakes.FakeSession):
        def attempt(self, cell):
            return Outcome(cell.key, "refused", 0.0, "cannot write to store: no space; free some")

    with pytest.raises(BenchError, match="no space; free some"):
        go(store, Full)
    assert call(["status", "--store", store.url]) == 0
    out = capsys.readouterr().out
    assert f"run interrupted: process {os.getpid()} on " in out
    assert " stopped: cannot write to store: no space; free some, last heard of " in out


def signs(store: Store, run: str = "aa", **other) -> None:
    plan = {"command": "bench run", "folder": "/", "cells": {"expert": ["ab"]}, "host": "far", "pid": 1}
    plan |= {"started_at": 1.0, "machine": "another boot", "began": "5"}
    beat = {"message": "", "running": [], "left_seconds": 7, "ended": ""}
    for name, found in (("plan", plan), ("beat", beat)):
        kept = {k: other.get(k, v) for k, v in found.items()}
        store.put(f"runs/{run}.{name}.json", json.dumps(kept).encode())


def test_a_run_on_another_machine_is_alive_while_it_is_heard(tmp_path):
    store = Store(tmp_path / "store")
    signs(store)
    assert [r.state for r in heartbeat.runs(store)] == ["alive"]
    old = time.time() - heartbeat.SILENT - 5
    os.utime(tmp_path / "store/runs/aa.beat.json", (old, old))
    (run,) = heartbeat.unfinished(store, set())
    assert run.state == "silent"
    assert run.heard == pytest.approx(heartbeat.SILENT + 5, abs=60)
    assert list(heartbeat.unfinished(store, {"ab"})) == []  # it left nothing
    signs(store, "bb")
    assert [r.run for r in heartbeat.unfinished(store, set())] == ["bb"]  # another does what it left


def beat(store: Store, ahead: float) -> None:
    """A sign of life of the run `aa`, timed by a clock that is `ahead` of ours."""
    path = Path(store.url) / "runs/aa.beat.json"
    path.write_bytes(path.read_bytes())
    os.utime(path, (time.time() + ahead,) * 2)


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (-600.0, "last heard of just now (the store's clock is 10:00 behind this machine's)"),
        (600.0, "last heard of just now (the store's clock is 10:00 ahead of this machine's)"),
    ],
)
def test_a_run_that_beats_is_alive_whatever_the_clocks_say(tmp_path, capsys, monkeypatch, ahead, said):
    store = Store(tmp_path / "store")
    signs(store)
    beat(store, ahead)
    assert [r.state for r in heartbeat.runs(store)] == ["silent"]
    listened = []

    def sleep(seconds: float) -> None:
        listened.append(seconds)
        if len(listened) == 3:
            beat(store, ahead + 1e-3)

    monkeypatch.setattr(heartbeat.time, "sleep", sleep)
    (run,) = status(store, capsys)["runs"]
    assert len(listened) == 3
    assert (run["state"], run["heard_seconds_ago"]) == ("alive", 0.0)
    assert run["clock_ahead_seconds"] == pytest.approx(ahead, abs=30)
    monkeypatch.setattr("bench.cli.progress.duration", lambda seconds: "10:00" if seconds < 700 else "long")
    listened.clear()
    assert call(["status", "--store", store.url]) == 0
    out = capsys.readouterr().out
    assert (
        out.splitlines()[1]
        == f"run alive: process 1 on far, for long, {said}: 1 of 1 cells left (1 expert), about 10:00"
    )


def test_a_sign_from_the_future_that_stays_the_last_is_no_proof_of_death(tmp_path, capsys, monkeypatch):
    store = Store(tmp_path / "store")
    signs(store)
    beat(store, 600)
    monkeypatch.setattr(heartbeat, "LISTEN", 0.01)
    assert call(["status", "--store", store.url]) == 0
    out = capsys.readouterr().out
    assert "run perhaps alive: process 1 on far is silent, last heard of in the future (the store's clock is " in out
    beat(store, -600)
    assert call(["status", "--store", store.url]) == 0
    assert "run perhaps dead: process 1 on far is silent, last heard of 10:0" in capsys.readouterr().out


def test_only_what_clocks_may_explain_is_listened_for(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    signs(store)
    monkeypatch.setattr(heartbeat.time, "sleep", lambda seconds: pytest.fail("it waited"))
    beat(store, -30)
    assert [r.state for r in heartbeat.unfinished(store, (), patience=9.0)] == ["alive"]
    beat(store, -heartbeat.CLOCKS - 60)
    assert [r.state for r in heartbeat.unfinished(store, (), patience=9.0)] == ["silent"]


def test_a_run_that_ends_while_it_is_listened_for_is_over(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    signs(store)
    beat(store, -600)
    monkeypatch.setattr(heartbeat.time, "sleep", lambda seconds: heartbeat.forget(store, "aa"))
    assert list(heartbeat.unfinished(store, (), patience=60.0)) == []


def test_a_process_number_that_was_given_again_is_not_the_driver(tmp_path):
    store = Store(tmp_path / "store")
    me = heartbeat.whoami()
    signs(store, **me)
    assert [r.state for r in heartbeat.runs(store)] == ["alive"]
    signs(store, **{**me, "began": "1"})
    assert [r.state for r in heartbeat.runs(store)] == ["dead"]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"cells": 1}', b"\xff\xfe", b'{"cells": {"expert": 3}}'])
def test_foreign_files_are_no_runs(tmp_path, data):
    store = Store(tmp_path / "store")
    signs(store)
    store.put("runs/aa.plan.json", data)
    assert heartbeat.runs(store) == []
    signs(store)
    store.put("runs/aa.beat.json", data)
    assert heartbeat.runs(store) == []


def test_a_terminal_is_shown_no_control_characters(tmp_path, capsys):
    store = Store(tmp_path / "store")
    signs(store, command="bench run \x1b[2J\nrm", host="far\x07")
    assert call(["status", "--store", store.url]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert out.count("\n") == 3 - 1


def test_keys_of_a_url_are_not_kept(tmp_path, monkeypatch, capsys):
    from bench.cli import options

    monkeypatch.setattr(options, "ASKED", ["run", "--store", "s3://key:secret@bucket/x", "--methods", "a b"])
    assert options.command() == "bench run --store s3://bucket/x --methods 'a b'"


def test_a_store_that_cannot_be_listed_is_one_line(tmp_path):
    store = Store(tmp_path / "store")
    (Path(store.url) / "runs").write_text("in the way")
    state = execute.schedule(fakes.smoke(), store)
    with pytest.raises(BenchError, match=r"cannot be listed \(.*\); fix access to it"):
        Heartbeat(store, Drive(state)).__enter__()
