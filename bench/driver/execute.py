"""Runs the cells of a plan that the store does not have yet: in this process, or as one Ray Tune experiment.

The store is the only truth. Resuming is planning again: what is done is skipped, what failed is tried again. With
nothing to do neither torch nor Ray is imported. `bench.driver.ray_tune` is the only module that imports ray.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from bench.cards import suites
from bench.driver import inputs
from bench.driver.base import Drive, Observer, OpenSession, Session
from bench.driver.heartbeat import Heartbeat
from bench.kinds.base import Cell
from bench.planning import costs, preflight
from bench.planning.schedule import Schedule
from bench.store.store import Store
from bench.work.runtime import How


def execute(
    cells: Sequence[Cell], store: Store, how: How, progress: Observer | None = None, command: str = ""
) -> Schedule:
    """Run what of the cells is not in the store; what became of each.

    `progress` is told how it goes. While it runs, the store says so, and with what `command` it goes on when it is
    killed.

    Raises BenchError before any work: a method of one's own that was edited, data or weights that are missing, other
    images than the store's; or when no cell can run at all (a session does not open, resources that the cluster
    lacks). A cell that fails is no error: the schedule says so. `KeyboardInterrupt` is passed on; records that were
    finished by then are in the store.
    """
    observer = progress or Observer()
    done = store.done()
    refuse_edited(cells, store, how.include, done)
    left = [cell for cell in cells if cell.key not in done]
    for name in sorted({cell.suite for cell in left}):
        preflight.require(suites.load(name), [cell for cell in left if cell.suite == name])
    if not how.address:  # a cluster's nodes decode for themselves, unless BENCH_CACHE is shared
        inputs.decode_missing(left, observer)
        inputs.same_rows(left, store)
    state = schedule(cells, store, done)
    observer.planned(state, len(store.failed() & state.pending))
    if how.device == "cuda" and not how.local:
        how = replace(how, gpu_fraction=how.gpu_fraction or costs.gpu_share(left, costs.read("cuda")))
        how = replace(how, gpu_fraction=how.gpu_share)
    run(state, store, partial(open_session, store.address, how), how, observer, command)
    return state


def open_session(store: str, how: How) -> Session:
    """The real session; imports torch."""
    from bench.kinds.session import Session

    return Session(how, Store(store))


def refuse_edited(cells: Iterable[Cell], store: Store, include: tuple[Any, ...], done: Collection[str]) -> None:
    """BenchError when a method of `include` has changed since a finished cell of the plan was measured with it."""
    if not include:
        return
    from bench.kinds import code
    from bench.registry import live

    registry = live.load(include)
    own = {cell.key: cell for cell in cells if cell.key in done and code.source(registry, cell)}
    for record in store.read_all(own):
        code.hold(registry, own[record.key], record.provenance)


def schedule(cells: Iterable[Cell], store: Store, done: Collection[str] | None = None) -> Schedule:
    """What of the plan is left to do; `done` are the keys that the store has, where they were listed already.

    An expert whose record is there but whose task vector was deleted is done, unless a cell that is still to run needs
    the vector: then it is trained again.
    """
    plan = list(cells)
    finished = store.done() if done is None else set(done)
    wanted = {need for cell in plan if cell.key not in finished for need in cell.needs}
    lost = {key for key in wanted & finished & {cell.key for cell in plan} if not store.has_vector(key)}
    return Schedule(plan, finished - lost)


def run(
    state: Schedule,
    store: Store,
    session: OpenSession,
    how: How,
    observer: Observer | None = None,
    command: str = "",
) -> None:
    """Run everything in `state` that can run; afterwards `state` says what became of each cell. As `execute`."""
    if state.over:
        return
    drive = Drive(state, observer)
    drive.observer.begin(drive)
    try:
        with Heartbeat(store, drive, command) as beat:
            if how.local:
                from bench.driver.local import run_local

                run_local(drive, session, how.cell_timeout)
            else:
                from bench.driver.ray_tune import run_ray

                run_ray(drive, store, session, how, beat.sign)
    finally:
        drive.observer.end()
