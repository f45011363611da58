"""Cells in this process, one after the other, in the order of the schedule. No Ray: for debugging and quick tests."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bench.driver.base import Drive, OpenSession
from bench.errors import BenchError, StoreError


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


def run_local(drive: Drive, session: OpenSession, cell_timeout: float) -> None:
    """Run every cell that can run; `StoreError` when the store can no longer be written."""
    drive.note("importing torch")
    worker = session()
    while (cell := drive.state.take()) is not None:
        drive.started(cell)
        with limit(cell_timeout):
            outcome = worker.attempt(cell)
        if outcome.status == "refused":
            raise StoreError(outcome.error)
        drive.settle(outcome)
