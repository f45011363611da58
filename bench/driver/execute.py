"""Runs the cells of a plan that the store does not have yet: in this process, or as one Ray Tune experiment.

The store is the only truth. Resuming is planning again: what is done is skipped, what failed is tried again. With
nothing to do neither torch nor Ray is imported. `bench.driver.ray_tune` is the only module that imports ray.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from bench.driver.base import OpenSession, Session, Workers
from bench.driver.heartbeat import Heartbeat
from bench.driver.progress import Progress
from bench.kinds.base import Cell
from bench.plan.schedule import Schedule
from bench.store.store import Store


def open_session(runtime: Mapping[str, Any]) -> Session:
    """The real session; imports torch."""
    from bench.kinds.session import Session
    from bench.work.runtime import Runtime

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

    While it runs, the store says so, and with what `command` it goes on when it is killed (`bench.driver.heartbeat`).

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
