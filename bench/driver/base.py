"""What drivers have in common: a session that runs cells, a run as it stands, and who is told of it."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from bench.kinds.base import Cell
from bench.kinds.protocol import Outcome
from bench.planning.schedule import Schedule


class Session(Protocol):
    """Runs cells and writes their records or failures to the store itself; `bench.kinds.session.Session` is the real
    one.
    """

    def attempt(self, cell: Cell) -> Outcome: ...


OpenSession = Callable[[], Session]
"""Called once in each worker; must be picklable and cheap to pickle."""


class Observer:
    """Who is told how a run goes. It only listens; each method says nothing here, so override those you want."""

    def planned(self, state: Schedule, again: int) -> None:
        """What there is to do; `again` cells failed before and are tried again."""

    def decoding(self, what: str, done: int, total: int) -> None:
        """Images of a split are decoded before the first cell runs."""

    def begin(self, drive: "Drive") -> None:
        """The run begins; `drive` may be asked how it stands until `end`."""

    def note(self, text: str) -> None:
        """What goes on while no cell runs yet, e.g. "starting Ray"."""

    def started(self, cell: Cell) -> None:
        """A worker has begun with `cell`."""

    def settled(self, cell: Cell, outcome: Outcome, blocked: Sequence[Cell]) -> None:
        """An attempt ended; `blocked` are the cells that wait for it in vain."""

    def end(self) -> None:
        """The run is over, or was interrupted."""


class Drive:
    """A run as it stands, and the one place where an attempt's outcome enters the schedule.

    The drivers call `note`, `started` and `settle`. Time left is the mean duration of finished cells of each kind,
    times what is left of that kind, over the number of workers.
    """

    def __init__(self, state: Schedule, observer: Observer | None = None) -> None:
        self.state = state
        self.observer = observer or Observer()
        self.workers = 1
        """How many cells may run at once."""
        self.message = ""
        """What goes on while no cell runs yet."""
        self.began: dict[str, float] = {}
        """Key of each cell that a worker has begun with, and when."""
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def note(self, text: str) -> None:
        """Say what goes on while no cell runs."""
        self.message = text
        self.observer.note(text)

    def started(self, cell: Cell) -> None:
        """A worker has begun with `cell`."""
        self.message = ""
        self.began[cell.key] = time.monotonic()
        self.observer.started(cell)

    def settle(self, outcome: Outcome) -> None:
        """An attempt ended, "done" or "failed": move its cell in the schedule."""
        cell, blocked = self.state.cells[outcome.key], []
        self.began.pop(cell.key, None)
        if outcome.status == "done":
            self.state.finish(cell.key)
            self._seconds[cell.kind].append(outcome.seconds)
        else:
            blocked = self.state.fail(cell.key, outcome.error)
        self.observer.settled(cell, outcome, blocked)

    def left(self) -> float | None:
        """Seconds until the end, as far as finished cells tell; None before the first."""
        if not self._seconds:
            return None
        means = {kind: sum(seconds) / len(seconds) for kind, seconds in list(self._seconds.items())}
        typical = sum(means.values()) / len(means)
        open_ = [self.state.cells[key] for key in (*self.state.pending, *self.state.running)]
        return sum(means.get(cell.kind, typical) for cell in open_) / max(1, self.workers)

    def running(self) -> list[tuple[str, float]]:
        """Label of each running cell, and seconds since it began; those that wait in a queue are not among them."""
        now = time.monotonic()
        began = list(self.began.items())[: max(1, self.workers)]
        return [(self.state.cells[key].label, now - since) for key, since in began]
