"""Cells in this process, one after the other, in the order of the schedule. No Ray: for debugging and quick tests."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bench.driver.base import OpenSession
from bench.driver.progress import Progress
from bench.errors import BenchError, StoreError
from bench.plan.schedule import Schedule


class CellTimeout(BenchError):
    """A cell ran longer than its limit."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise `CellTimeout` in the main thread after `seconds` (0: never), where Python code runs."""
    if not seconds:
        yield
        return

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise CellTimeout(f"cell ran longer than {seconds:g} s; raise --cell-timeout if it should")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def run_local(state: Schedule, session: OpenSession, progress: Progress, cell_timeout: float = 0.0) -> None:
    """Run every cell of `state` that can run; `StoreError` when the store can no longer be written."""
    progress.note("importing torch")
    worker = session()
    while (cell := state.take()) is not None:
        progress.started(cell)
        with limit(cell_timeout):
            outcome = worker.attempt(cell)
        if outcome.status == "refused":
            raise StoreError(outcome.error)
        progress.settle(cell, outcome.status, outcome.seconds, outcome.error, outcome.headline)
