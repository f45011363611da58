"""Both drivers over a session that computes nothing: order, failures, resumption, refusal, death of workers."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import fakes
import pytest
from fakes import command, wait_for

from bench.driver import execute
from bench.errors import BenchError
from bench.kinds.protocol import Outcome
from bench.store.store import Store
from bench.work.runtime import How

HERE = Path(__file__).parents[1]
RAY = (pytest.mark.slow, pytest.mark.timeout(900))
EITHER = pytest.mark.parametrize("local", [True, pytest.param(False, marks=RAY)], ids=["local", "ray"])


@pytest.fixture(autouse=True)
def workers_find_the_fakes(monkeypatch):
    root = str(HERE.parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(HERE), root)))


def go(store, *, local, trouble=None, scars="", timeout=0.0):
    state = execute.schedule(fakes.smoke(), store)
    session = partial(fakes.FakeSession, store.url, trouble or {}, str(scars))
    execute.run(state, store, session, How(workers=2, local=local, cell_timeout=timeout))
    return state


def keys(*labels):
    found = {cell.label: cell.key for cell in fakes.smoke()}
    return {found[label] for label in labels}


def test_everything_runs_once_and_a_second_run_does_nothing(tmp_path):
    store = Store(tmp_path / "store")
    state = go(store, local=True)
    assert store.done() == state.done == {cell.key for cell in fakes.smoke()}
    again = execute.schedule(fakes.smoke(), store)
    assert again.over

    def never():
        raise AssertionError("a session was opened although nothing was left to do")

    execute.run(again, store, never, How(local=True))


def test_a_cell_that_raises_blocks_only_what_needs_it_and_is_tried_again(tmp_path):
    store = Store(tmp_path / "store")
    state = go(store, local=True, trouble={"nonlinear numbers seed 0": "raise"})
    assert state.failed == dict.fromkeys(keys("nonlinear numbers seed 0"), "planted")
    assert set(state.blocked) == keys("nonlinear/task_arithmetic seed 0", "nonlinear/ties seed 0")
    assert len(store.done()) == 6
    assert store.failed() == keys("nonlinear numbers seed 0")
    state = go(store, local=True)
    assert state.before == 6
    assert len(store.done()) == 9
    assert store.failed() == set()


def test_a_cell_that_hangs_fails_at_its_time_limit(tmp_path):
    store = Store(tmp_path / "store")
    state = go(store, local=True, trouble={"zero-shot": "hang"}, timeout=0.5)
    assert set(state.failed) == keys("zero-shot")
    assert state.failed[next(iter(state.failed))].startswith("cell ran longer than 0.5 s")
    assert len(store.done()) == 8


@EITHER
def test_a_session_that_does_not_open_is_one_error(tmp_path, local):
    with pytest.raises(BenchError, match="weights are damaged; fetch them again"):
        go(Store(tmp_path / "store"), local=local, trouble={"any": "refuse"})


def test_local_settles_cells_in_the_order_of_the_plan(tmp_path):
    order = []

    class Recorder(fakes.FakeSession):
        def attempt(self, cell):
            order.append(cell.key)
            return super().attempt(cell)

    store = Store(tmp_path / "store")
    state = execute.schedule(fakes.smoke(), store)
    execute.run(state, store, partial(Recorder, store.url), How(local=True))
    assert order == [cell.key for cell in fakes.smoke()]


def test_an_expert_whose_vector_was_lost_is_trained_again_only_if_needed(tmp_path):
    store = Store(tmp_path / "store")
    go(store, local=True)
    lost = next(iter(keys("nonlinear digits seed 0")))
    (tmp_path / "store" / "vectors" / f"{lost}.safetensors").unlink()
    assert execute.schedule(fakes.smoke(), store).over
    merge = next(iter(keys("nonlinear/ties seed 0")))
    (tmp_path / "store" / "records" / merge[:2] / f"{merge}.parquet").unlink()
    state = execute.schedule(fakes.smoke(), store)
    assert state.pending == keys("nonlinear digits seed 0", "nonlinear/ties seed 0")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_kind_of_trouble_in_one_ray_run(tmp_path, monkeypatch):
    """A worker that dies is tried again; what always dies, raises, hangs or does not hear its limit is a failure."""
    from bench.driver import trials

    monkeypatch.setattr(trials, "GRACE", 3.0)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # a run without --address starts its own Ray all the same
    scars = tmp_path / "scars"
    scars.mkdir()
    store = Store(tmp_path / "store")
    trouble = {
        "zero-shot": "deaf",
        "nonlinear digits seed 0": "die",
        "nonlinear/task_arithmetic seed 0": "die always",
        "nonlinear/ties seed 0": "hang",
        "att+orthoreg numbers seed 0": "raise",
    }
    state = go(store, local=False, trouble=trouble, scars=scars, timeout=1.0)
    label = {cell.key: cell.label for cell in fakes.smoke()}
    assert {label[key]: error for key, error in state.failed.items()} == {
        "zero-shot": "cell ran longer than 1 s and did not stop; its worker was killed",
        "nonlinear/task_arithmetic seed 0": "no worker could run it: its process died 4 times (killed, or crashed in "
        "native code)",
        "nonlinear/ties seed 0": "cell ran longer than 1 s; raise --cell-timeout if it should",
        "att+orthoreg numbers seed 0": "planted",
    }
    assert set(state.blocked) == keys("att+orthoreg/task_arithmetic seed 0", "att+orthoreg/ties seed 0")
    assert {key: store.read_failure(key)["error"] for key in store.failed()} == state.failed
    assert store.done() == keys("nonlinear digits seed 0", "nonlinear numbers seed 0", "att+orthoreg digits seed 0")
    state = go(store, local=True)
    assert state.before == 3
    assert len(store.done()) == 9
    assert store.failed() == set()


def test_scratch_folders_of_dead_drivers_are_removed(tmp_path):
    from bench.driver.ray_tune import _scratch

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (f"b{gone.pid}-old", f"b{os.getpid()}-mine", "backup-2024", "b1-init"):
        (tmp_path / name / "session").mkdir(parents=True)
    made = _scratch(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [made.name, f"b{os.getpid()}-mine", "backup-2024", "b1-init"]
    )


@pytest.mark.parametrize(
    "wrong", [{"workers": -1}, {"gpu_fraction": 1.5}, {"cell_timeout": -1.0}, {"address": "ray://head:10001"}]
)
def test_workers_out_of_range(wrong):
    with pytest.raises(BenchError, match="give"):
        How(**wrong)


@pytest.mark.parametrize(
    ("local", "number"),
    [
        pytest.param(True, signal.SIGINT, id="SIGINT-local"),
        pytest.param(True, signal.SIGTERM, id="SIGTERM-local"),
        pytest.param(False, signal.SIGTERM, marks=RAY, id="SIGTERM-ray"),
    ],
)
def test_a_signal_keeps_finished_cells_and_exits_130(tmp_path, local, number):
    store = Store(tmp_path / "store")
    flags = ["--local"] if local else []
    process = command(tmp_path / "store", *flags, trouble={"nonlinear/ties seed 0": "hang"})
    wait_for(lambda: len(store.done()) >= 4, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1].startswith("interrupted; ")
    assert "the same command goes on from there" in err
    kept = store.done()
    assert kept
    second = command(tmp_path / "store", "--local")  # what one driver left, the other goes on with
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert f"9 cells, {len(kept)} already done" in err
    assert len(store.done()) == 9


@EITHER
def test_kill_9_of_the_driver_then_the_same_command_finishes_the_rest(tmp_path, local):
    store = Store(tmp_path / "store")
    flags = ["--local"] if local else []
    process = command(tmp_path / "store", *flags, seconds=0.2)
    wait_for(lambda: len(store.done()) >= 3, process)
    process.kill()
    process.communicate(timeout=180)
    time.sleep(0 if local else 6)  # workers of a dead driver live on for seconds and may still write
    kept = store.done()
    second = command(tmp_path / "store", "--local")  # what one driver left, the other goes on with
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert f"9 cells, {len(kept)} already done" in err
    assert store.done() == {cell.key for cell in fakes.smoke()}


def test_a_store_that_cannot_be_written_ends_the_run(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    attempts = []

    class Full(fakes.FakeSession):
        def attempt(self, cell):
            attempts.append(cell.key)
            if len(attempts) == 3:
                return Outcome(cell.key, "refused", 0.0, "cannot write to store: No space left on device")
            return super().attempt(cell)

    state = execute.schedule(fakes.smoke(), store)
    with pytest.raises(BenchError, match="cannot write to store: No space left on device"):
        execute.run(state, store, partial(Full, store.url), How(local=True))
    assert len(attempts) == 3
    assert store.done() == set(attempts[:2])
