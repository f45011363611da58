"""Runs the cells of a plan that the store does not have yet: in this process, or as one Ray Tune experiment.

The store is the only truth. Resuming is planning again: what is done is skipped, what failed is tried again. With
nothing to do neither torch nor Ray is imported. `bench.driver.ray_tune` is the only module that imports ray.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bench.cells import Cell
from bench.errors import BenchError
from bench.heartbeat import Heartbeat
from bench.progress import Progress
from bench.schedule import Outcome, Schedule
from bench.store import Store


class Session(Protocol):
    """Runs cells and writes their records or failures to the store itself; see `bench.run.Session`."""

    def attempt(self, cell: Cell) -> Outcome: ...


OpenSession = Callable[[], Session]
"""Called once in each worker; must be picklable and cheap to pickle."""


@dataclass(frozen=True)
class Workers:
    """How many cells run at once and on what. None of it is part of a key."""

    count: int = 0
    """0: as many as there are CPUs (or GPU shares, on CUDA, for the cells that run a model)."""
    device: str = "cpu"
    gpu_fraction: float = 0.0
    """Share of a GPU for each worker; 0: see `gpu_share`."""
    address: str = ""
    """Of a running Ray cluster; empty: start one here and stop it afterwards."""
    threads: int = 1
    cell_timeout: float = 0.0
    """Seconds after which a cell has failed; 0: never."""

    @property
    def gpu_share(self) -> float:
        """What each worker gets: one half where nothing else was asked for or measured."""
        return self.gpu_fraction or 0.5

    def __post_init__(self) -> None:
        if self.count < 0:
            raise BenchError(f"--workers is {self.count}; give a whole number, at least 1")
        if not 0 <= self.gpu_fraction <= 1:
            raise BenchError(f"--gpu-fraction is {self.gpu_fraction}; give a number above 0, at most 1")
        if "://" in self.address:
            raise BenchError(f"--address is {self.address}; give HOST:PORT of a head node, or auto on one of its nodes")
        if self.cell_timeout < 0:
            raise BenchError(f"--cell-timeout is {self.cell_timeout}; give seconds, or 0 for no limit")


def open_session(runtime: Mapping[str, Any]) -> Session:
    """The real session; imports torch."""
    from bench.run import Runtime, Session

    return Session(Runtime(**runtime))


def schedule(cells: Iterable[Cell], store: Store) -> Schedule:
    """What of the plan is left to do.

    An expert whose record is there but whose task vector was deleted is done, unless a cell that is still to run needs
    the vector: then it is trained again.
    """
    plan = list(cells)
    done = store.done()
    wanted = {need for cell in plan if cell.key not in done for need in cell.needs}
    lost = {key for key in wanted & done & {cell.key for cell in plan} if not store.has_vector(key)}
    return Schedule(plan, done - lost)


def run(
    state: Schedule,
    store: Store,
    session: OpenSession,
    *,
    progress: Progress,
    workers: Workers,
    local: bool = False,
    command: str = "",
) -> None:
    """Run everything in `state` that can run; afterwards `state` says what became of each cell.

    While it runs, the store says so, and with what `command` it goes on when it is killed (`bench.heartbeat`).

    Raises `BenchError` when no cell can run at all (a session does not open, resources that the cluster lacks) and
    passes `KeyboardInterrupt` on; records that were finished by then are in the store.
    """
    if state.over:
        return
    with progress, Heartbeat(store, progress, command) as beat:
        if local:
            from bench.driver.local import run_local

            run_local(state, session, progress, workers.cell_timeout)
        else:
            from bench.driver.ray_tune import run_ray

            run_ray(state, store, session, progress, workers, beat.sign)
