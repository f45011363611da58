"""What the harness costs when cells cost nothing: ten thousand cells planned, driven, read, resumed, tabled.

    python -m benchmarks.harness [--cells 10000] [--ray 200 800]    ten minutes on one core, 200 MB of scratch
    python -m benchmarks.harness --ray 200 800 10000                the same with all cells on Ray: five minutes more

Cells are those of `--grid all` over as many seeds as it takes; their work is `benchmarks._noop`: nothing, or a record
with as many rows as the real one. Every stage is a process of its own, so that its CPU seconds and peak memory are its
own, start of the interpreter included. `per_cell_ms` is wall time inside the driver over its cells.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.cards import suites
from bench.driver import execute
from bench.driver.base import Observer
from bench.ground.versions import commit
from bench.kinds.base import Cell
from bench.planning import grid
from bench.planning.schedule import Schedule
from bench.registry.catalogue import load
from bench.store import results
from bench.store.store import Store
from bench.work.runtime import How
from benchmarks._noop import Noop

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "harness.json"
GRID = "all"


def plan(seeds: int) -> list[Cell]:
    """The cells of the grid."""
    chosen = grid.grid(GRID)
    return grid.plan(suites.load(chosen.suite), chosen, load(), seeds=range(seeds))


# --- stages: each runs in a process of its own and says what it found ----------------------------------------------


def schedule(seeds: int, store: str) -> dict[str, Any]:
    """Hand out and settle every cell; no driver, no store."""
    cells = plan(seeds)
    start = time.perf_counter()
    state = Schedule(cells)
    while (cell := state.take()) is not None:
        state.finish(cell.key)
    return {"per_cell_ms": 1e3 * (time.perf_counter() - start) / len(cells)}


def drive(seeds: int, store: str) -> dict[str, Any]:
    """`--local` over cells that do nothing and leave nothing."""
    return _driven(plan(seeds), store, Noop, local=True)


def fill(seeds: int, store: str) -> dict[str, Any]:
    """`--local` over cells that leave a record."""
    return _driven(plan(seeds), store, partial(Noop, store), local=True)


def ray(seeds: int, store: str, cells: int = 0) -> dict[str, Any]:
    """Ray Tune over the first cells of the plan, which do nothing. Time between the first and the last to end.

    `driver_mb`: peak resident memory of the driver alone; `peak_mb` is that of the largest process, Ray's own included.
    """
    found = _driven(plan(seeds)[:cells], store, Noop, local=False)
    return found | {"driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}


def read(seeds: int, store: str) -> dict[str, Any]:
    """All records as two tables."""
    start = time.perf_counter()
    rows, cells = results.load(store)
    return {"seconds_reading": time.perf_counter() - start, "records": len(cells), "rows": len(rows)}


STAGES: dict[str, Callable[..., dict[str, Any]]] = {f.__name__: f for f in (schedule, drive, fill, ray, read)}


class Clock(Observer):
    """Notes when the first and the last cell end."""

    first = last = 0.0

    def settled(self, *given: Any) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last


def _driven(cells: list[Cell], store: str, session: Callable[[], Any], *, local: bool) -> dict[str, Any]:
    state = Schedule(cells)
    clock = Clock()
    execute.run(state, Store(store), session, How(local=local), clock)
    if len(state.done) != len(cells):
        raise SystemExit(f"{len(state.done)} of {len(cells)} cells done")
    return {"per_cell_ms": 1e3 * (clock.last - clock.first) / (len(cells) - 1), "cells": len(cells)}


# --- the whole -----------------------------------------------------------------------------------------------------


def timed(*command: str) -> tuple[dict[str, float], str]:
    """Wall and CPU seconds and peak resident MB of a command, and what it printed. Raises when it fails."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, cwd=HERE.parent
    ) as child:
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {child.returncode}")
    spent = {"seconds": time.perf_counter() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    return spent | {"peak_mb": usage.ru_maxrss / 2**10}, said


def measure(seeds: int, ray_cells: tuple[int, ...], scratch: Path) -> dict[str, dict[str, float]]:
    """Every stage, in the order in which it needs the one before."""
    store, empty = str(scratch / "store"), str(scratch / "empty")
    found: dict[str, dict[str, float]] = {}

    def note(name: str, *command: str, stage: bool = False) -> None:
        spent, said = timed(*command)
        found[name] = {k: round(v, 3) for k, v in (spent | (json.loads(said) if stage else {})).items()}
        print(f"{name:40s}", "  ".join(f"{k} {v:g}" for k, v in found[name].items()), flush=True)

    def own(name: str, stage: str, where: str, *more: str) -> None:
        note(name, "benchmarks.harness", "--stage", stage, "--seeds", str(seeds), "--store", where, *more, stage=True)

    asked = ("--grid", GRID, "--seeds", str(seeds), "--store")
    own("schedule", "schedule", empty)
    own("driver, --local", "drive", empty)
    for count in ray_cells:
        own(f"driver, Ray, {count} cells", "ray", empty, "--cells", str(count))
    note("bench plan, nothing done", "bench", "plan", *asked, empty)
    own("driver, --local, with records", "fill", store)
    own("read, a file a record", "read", store)
    note("bench results compact", "bench", "results", "compact", "--store", store)
    own("read, compacted", "read", store)
    note("bench plan, all done", "bench", "plan", *asked, store)
    note("bench status", "bench", "status", *asked, store)
    note("bench run, all done", "bench", "run", *asked, store)
    note("bench leaderboard build", "bench", "leaderboard", "build", "--store", store, "--out", str(scratch / "boards"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000, help="at least so many are planned")
    parser.add_argument("--ray", type=int, nargs="*", default=[200, 800], help="so many on Ray; none leaves it out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--store", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        more = {"cells": given.cells} if given.stage == "ray" else {}
        print(json.dumps(STAGES[given.stage](given.seeds, given.store, **more)))
        return
    of_seed = len(plan(2)) - len(plan(1))
    seeds = -(-given.cells // of_seed)
    report: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("ray", "pyarrow")}},
        "commit": commit(),
        "grid": GRID, "seeds": seeds, "cells": len(plan(seeds)),
    }  # fmt: skip
    print(f"{report['cells']} cells: grid {GRID}, {seeds} seeds", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-harness-") as scratch:
        report["stages"] = measure(seeds, tuple(given.ray), Path(scratch))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
