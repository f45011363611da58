"""Which cell may run next, given what is done, failed and running. Knows neither Ray nor torch nor a disk.

A cell is ready when every cell it needs is done. When one fails, all that need it, directly or through others, are
blocked: they are never tried, and everything else goes on. Both drivers (`--local` and Ray Tune) ask this object.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from bench.kinds.base import Cell


@dataclass(frozen=True)
class Counts:
    """How many cells of a plan are in which state; `total` is their sum."""

    done: int
    running: int
    failed: int
    blocked: int
    pending: int

    @property
    def total(self) -> int:
        return self.done + self.running + self.failed + self.blocked + self.pending


class Schedule:
    """The state of one run over `cells`; `done` are the keys that the store already has, in the plan or not.

    Ready cells are handed out in the order of the plan. A need that is neither planned nor done blocks its cell at
    once, as a failed one would. Every transition costs O(log cells) plus the dependants it releases.
    """

    def __init__(self, cells: Iterable[Cell], done: Iterable[str] = ()) -> None:
        self.cells: dict[str, Cell] = {cell.key: cell for cell in cells}
        available = set(done)
        self.done: set[str] = available & self.cells.keys()
        self.before: int = len(self.done)
        """How many were done when the run began."""
        self.running: dict[str, Cell] = {}
        self.failed: dict[str, str] = {}
        """Key -> error line."""
        self.blocked: dict[str, str] = {}
        """Key -> key of the cell in its way."""
        self.pending: set[str] = self.cells.keys() - self.done
        self._order = {key: place for place, key in enumerate(self.cells)}
        self._waits: dict[str, int] = {}
        self._dependants: dict[str, list[str]] = {}
        self._ready: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
        for key in [k for k in self.cells if k in self.pending]:
            missing = set(self.cells[key].needs) - available
            self._waits[key] = len(missing)
            for need in missing:
                self._dependants.setdefault(need, []).append(key)
            if not missing:
                self._release(key)
        for need in [n for n in self._dependants if n not in self.cells]:
            self._block(need)

    def take(self, models: bool | None = None) -> Cell | None:
        """The next ready cell, now running; None while all that is left waits for running cells, or at the end.

        models: only one that runs a model (True), or only one that runs none (False); None: whichever comes first.
        """
        ready = [heap for kind, heap in self._ready.items() if heap and models in (None, kind)]
        if not ready:
            return None
        _, key = heapq.heappop(min(ready))
        self.pending.discard(key)
        self.running[key] = self.cells[key]
        return self.running[key]

    def finish(self, key: str) -> None:
        """The running cell `key` is done; what waited only for it becomes ready."""
        del self.running[key]
        self.done.add(key)
        for dependant in self._dependants.pop(key, ()):
            self._waits[dependant] -= 1
            if not self._waits[dependant] and dependant in self.pending:
                self._release(dependant)

    def fail(self, key: str, error: str) -> list[Cell]:
        """The running cell `key` failed; returns the cells that are blocked by it."""
        del self.running[key]
        self.failed[key] = error
        return self._block(key)

    def _release(self, key: str) -> None:
        heapq.heappush(self._ready[self.cells[key].runs_model], (self._order[key], key))

    def _block(self, cause: str) -> list[Cell]:
        newly = []
        front = [cause]
        while front:
            for dependant in self._dependants.pop(front.pop(), ()):
                if dependant in self.pending:
                    self.pending.discard(dependant)
                    self.blocked[dependant] = cause
                    newly.append(self.cells[dependant])
                    front.append(dependant)
        return newly

    @property
    def exhausted(self) -> bool:
        """Nothing is left to hand out; some cells may still be running."""
        return not self.pending

    @property
    def over(self) -> bool:
        """Nothing is left to hand out and nothing is running."""
        return not self.pending and not self.running

    @property
    def counts(self) -> Counts:
        """How many cells are where."""
        return Counts(len(self.done), len(self.running), len(self.failed), len(self.blocked), len(self.pending))
