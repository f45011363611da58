"""A session that computes nothing: it writes empty records at once, and misbehaves where it is told to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench.cards import suites
from bench.errors import BenchError
from bench.kinds.base import Cell, shared
from bench.kinds.expert import Finetune
from bench.kinds.geometry import Geometry
from bench.kinds.protocol import Outcome
from bench.planning import grid
from bench.registry import catalogue
from bench.store.records import Record
from bench.store.store import Store

HERE = Path(__file__).parent


class FakeSession:
    """`trouble` maps a cell's label to what it does.

    raise, hang, deaf (hang without hearing alarms), die (once, until `scars` names it), die always; refuse, for any
    label, keeps the session from opening.
    """

    def __init__(
        self, store: str, trouble: Mapping[str, str] | None = None, scars: str = "", seconds: float = 0.0
    ) -> None:
        self.store, self.trouble, self.scars, self.seconds = Store(store), dict(trouble or {}), scars, seconds
        if "refuse" in self.trouble.values():
            raise BenchError("weights are damaged; fetch them again")

    def attempt(self, cell: Cell) -> Outcome:
        start = time.perf_counter()
        try:
            self._suffer(cell, self.trouble.get(cell.label, ""))
            time.sleep(self.seconds)
            if cell.kind == "expert":
                self.store.write_vector(cell.key, cell.key.encode())
            seen = {"pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "all")}
            self.store.write(Record(cell.key, cell.identity, metrics=seen))
        except Exception as error:
            self.store.write_failure(cell.key, {"error": str(error), "identity": cell.identity, "traceback": "here"})
            return Outcome(cell.key, "failed", time.perf_counter() - start, str(error))
        headline = {"kind": cell.kind, "name": cell.label, "accuracy": 0.5}
        return Outcome(cell.key, "done", time.perf_counter() - start, headline=headline)

    def _suffer(self, cell: Cell, trouble: str) -> None:
        if trouble == "raise":
            raise ValueError("planted")
        if trouble == "hang":
            time.sleep(600)
        if trouble == "deaf":
            signal.setitimer(signal.ITIMER_REAL, 0)
            time.sleep(600)
        if trouble == "die":
            scar = Path(self.scars) / cell.key
            if not scar.exists():
                scar.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "die always":
            os.kill(os.getpid(), signal.SIGKILL)


def smoke() -> list[Cell]:
    """The nine cells of the smoke grid: zero-shot, then twice two experts and two merges."""
    chosen = grid.grid("smoke")
    return grid.plan(suites.load(chosen.suite), chosen, catalogue.load())


def with_geometry() -> list[Cell]:
    """The same and the geometry of each pair of experts: two cells that run no model."""
    cells = smoke()
    experts = [cell for cell in cells if isinstance(cell, Finetune)]
    pairs = [[e for e in experts if e.finetuning == name] for name in sorted({e.finetuning for e in experts})]
    return [*cells, *(Geometry(**shared(pair)) for pair in pairs)]


SCRIPT = """
import sys
from functools import partial
sys.path[:0] = {paths!r}
import fakes
from bench.driver import execute
execute.open_session = lambda store, how: fakes.FakeSession(store, {trouble!r}, seconds={seconds!r})
from bench.cli import main
main({arguments!r})
"""


def command(store, *arguments, trouble=None, seconds=0.0):
    """`bench run --grid smoke` in a process of its own, over the fake session."""
    paths = [str(HERE), str(HERE.parent.parent)]
    words = ["run", "--grid", "smoke", "--store", str(store), *arguments]
    text = SCRIPT.format(paths=paths, trouble=trouble or {}, arguments=words, seconds=seconds)
    # A test run in the background ignores Ctrl-C, and children inherit that: the command must hear it all the same.
    hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", text], stdout=pipe, stderr=pipe, text=True, preexec_fn=hears)


def wait_for(condition, process, seconds=240.0):
    """Until `condition()` holds; fails when the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
