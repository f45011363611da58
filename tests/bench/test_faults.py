"""The fault suite: a two-node Ray cluster inside this machine, killed at random, must leave what a quiet run leaves.

Prints its figures (`pytest -s`): kills survived, records lost, duplicated, different. They stand in the README.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.store import Store

ROOT = Path(__file__).parent.parent.parent
KILLS = int(os.environ.get("BENCH_KILLS", "20"))
"""Fewer where time is short: `BENCH_KILLS=4`."""
SEED = 20261122
GRID = ("run", "--grid", "smoke", "--seeds", "2")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]", seconds: float = 600) -> tuple[int, str]:
    _, err = process.communicate(timeout=seconds)
    return process.returncode, err


def children(parent: int) -> list[int]:
    """Process ids whose parent is `parent`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


class Nodes:
    """Head and one more node, one core each, as raylets of this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
        self.node = node
        self.cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        self.second = self.cluster.add_node(**node)

    def workers(self) -> list[int]:
        """Processes that run cells: the raylets' children that call themselves a trial."""
        found = []
        for node in (self.cluster.head_node, self.second):
            for info in node.all_processes["raylet"]:
                for pid in children(info.process.pid):
                    with contextlib.suppress(OSError):
                        if b"Trainable" in Path(f"/proc/{pid}/cmdline").read_bytes():
                            found.append(pid)
        return sorted(found)

    def replace_second(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)
        for attempt in range(3):  # a loaded machine can miss Ray's fixed 30 s
            with contextlib.suppress(Exception):
                self.second = self.cluster.add_node(**self.node)
                return
            print(f"node did not start, attempt {attempt}")
        raise AssertionError("no second node could be started")

    def close(self) -> None:
        self.cluster.shutdown()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    scratch = tempfile.mkdtemp(prefix="b", dir="/tmp")
    for name, value in {
        "RAY_TMPDIR": scratch,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }.items():
        monkeypatch.setenv(name, value)
    running = Nodes()
    yield running
    running.close()
    shutil.rmtree(scratch, ignore_errors=True)


def contents(store: Store) -> dict[str, tuple[object, ...]]:
    """All of every record but its provenance, and every task vector's bytes."""
    return {
        r.key: (r.identity, r.rows, r.metrics, store.read_vector(r.key) if store.has_vector(r.key) else b"")
        for r in store.read_all()
    }


def test_twenty_kills_leave_what_a_quiet_run_leaves(tmp_path: Path, nodes: Nodes) -> None:
    quiet, stormy = tmp_path / "quiet", tmp_path / "stormy"
    code, err = finish(start(*GRID, "--local", "--store", str(quiet)))
    assert code == 0, err
    expected = contents(Store(quiet))

    dice = random.Random(SEED)
    store = Store(stormy)
    command = (*GRID, "--store", str(stormy), "--address", nodes.cluster.address)
    kills = dict.fromkeys(("worker", "node", "driver"), 0)
    driver, drivers = start(*command), 1
    ended = time.monotonic() + 900
    while sum(kills.values()) < KILLS:
        assert time.monotonic() < ended, f"only {kills}, {len(store.done())} cells done"
        time.sleep(dice.uniform(2.0, 7.0))
        if len(store.done()) == len(expected):  # done too soon: take some records away, as another user might
            for key in dice.sample(sorted(expected), 5):
                (stormy / "records" / key[:2] / f"{key}.parquet").unlink()
        if driver.poll() is not None:
            driver, drivers = start(*command), drivers + 1
        what = dice.choices(("worker", "driver", "node"), (6, 2, 1))[0]
        if what == "worker":
            found = nodes.workers()
            if not found:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(found), signal.SIGKILL)
        elif what == "driver":
            driver.kill()
            driver.communicate()
        else:
            nodes.replace_second()
        kills[what] += 1

    for _ in range(4):  # a cell that was killed four times in one run is a failure until the next
        if driver.poll() is None:
            finish(driver)
        driver = start(*command)
        code, err = finish(driver)
        drivers += 1
        if code == 0:
            break
    assert code == 0, err
    found = contents(store)
    files = [p for p in (stormy / "records").rglob("*") if p.is_file()]
    different = sum(found[key] != expected[key] for key in expected.keys() & found.keys())
    lost, extra = len(expected.keys() - found.keys()), len(files) - len(expected)
    print(f"\nkills survived: {sum(kills.values())} {kills}, drivers started: {drivers}")
    print(f"records {len(found)}: lost {lost}, duplicated {extra}, different {different}")
    assert (lost, extra, different) == (0, 0, 0)
    assert store.failed() == set()
