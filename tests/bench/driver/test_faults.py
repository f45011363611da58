"""The fault suite: a two-node Ray cluster inside this machine, killed at random, must leave what a quiet run leaves.

Prints its figures (`pytest -s`): kills survived, records lost, duplicated, different. They stand in the README. What is
killed and how long each victim lives is drawn from a seed; a kill waits until there is somebody to kill, so that a slow
machine takes longer and nothing else.
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
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import contents

from bench.store.store import Store

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("BENCH_KILLS", "20"))
"""Fewer where time is short: `BENCH_KILLS=4`."""
SEED = 20261122
PATIENCE = 900
"""Seconds that one step may take: the start of a node, of a driver, of a worker. A loaded machine needs minutes."""
GRID = ("run", "--grid", "smoke")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]", seconds: float = 2 * PATIENCE) -> tuple[int, str]:
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


def schedule(kills: int) -> list[tuple[str, bool, float]]:
    """(victim, whether a record comes first, seconds that it lives then); the first three are one of each kind."""
    dice = random.Random(SEED)
    kinds = ["worker", "driver", "node", *dice.choices(("worker", "driver", "node"), (6, 2, 1), k=max(0, kills - 3))]
    return [(kind, dice.random() < 0.6, dice.uniform(0.0, 4.0)) for kind in kinds[:kills]]


class Storm:
    """One store, one command, and whoever runs it just now."""

    def __init__(self, nodes: Nodes, store: Store, expected: set[str]) -> None:
        self.nodes, self.store, self.expected = nodes, store, expected
        self.command = (*GRID, "--store", store.url, "--address", nodes.cluster.address)
        self.driver, self.drivers = start(*self.command), 1
        self.dice = random.Random(SEED)
        self.seen = 0
        """Records when the last kill was over."""

    def busy(self, after_a_record: bool = False) -> list[int]:
        """Processes that run cells, once there are any. A driver that ended in between is started again."""
        end = time.monotonic() + PATIENCE
        while not (found := self.nodes.workers()) or (after_a_record and len(self.store.done()) <= self.seen):
            assert time.monotonic() < end, f"nobody to kill in {PATIENCE} s, {len(self.store.done())} cells done"
            if self.driver.poll() is not None:
                self.again()
            time.sleep(0.2)
        return found

    def again(self) -> None:
        """The same command once more. Where all is done, some records are taken away, as another user might."""
        self.driver.communicate()
        if self.store.done() == self.expected:
            for key in self.dice.sample(sorted(self.expected), 4):
                Path(self.store.url, "records", key[:2], f"{key}.parquet").unlink()
            self.seen = len(self.store.done())
        self.driver, self.drivers = start(*self.command), self.drivers + 1

    def kill(self, what: str, after_a_record: bool, seconds: float) -> None:
        """Wait for somebody to kill, let them live for some seconds, then SIGKILL."""
        self.busy(after_a_record)
        time.sleep(seconds)
        if what == "node":
            self.nodes.replace_second()
        while what == "driver":
            self.busy()
            self.driver.kill()
            if self.driver.wait() == -signal.SIGKILL:  # otherwise it had just ended by itself
                break
        while what == "worker":
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.dice.choice(self.busy()), signal.SIGKILL)
                break
        if self.driver.poll() is not None:
            self.again()
        self.seen = len(self.store.done())

    def calm(self) -> int:
        """Let the command end undisturbed. A cell that was killed four times in one run is a failure until the next."""
        code, err = finish(self.driver)
        for _ in range(3):
            if code == 0:
                break
            self.driver, self.drivers = start(*self.command), self.drivers + 1
            code, err = finish(self.driver)
        assert code == 0, err
        return self.drivers


def test_twenty_kills_leave_what_a_quiet_run_leaves(tmp_path: Path, nodes: Nodes) -> None:
    code, err = finish(start(*GRID, "--local", "--store", str(tmp_path / "quiet")))
    assert code == 0, err
    expected = contents(Store(tmp_path / "quiet"))

    store = Store(tmp_path / "stormy")
    storm = Storm(nodes, store, set(expected))
    kills: Counter[str] = Counter()
    for what, after_a_record, seconds in schedule(KILLS):
        storm.kill(what, after_a_record, seconds)
        kills[what] += 1
        print(f"{sum(kills.values())}: killed a {what}, {len(store.done())} of {len(expected)} done", flush=True)
    drivers = storm.calm()

    found = contents(store)
    files = [p for p in Path(store.url, "records").rglob("*") if p.is_file()]
    different = sum(found[key] != expected[key] for key in expected.keys() & found.keys())
    lost, extra = len(expected.keys() - found.keys()), len(files) - len(expected)
    print(f"kills survived: {sum(kills.values())} {dict(kills)}, drivers started: {drivers}")
    print(f"records {len(found)}: lost {lost}, duplicated {extra}, different {different}")
    assert (lost, extra, different) == (0, 0, 0)
    assert store.failed() == set()
