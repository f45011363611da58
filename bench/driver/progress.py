"""Progress on stderr: one live display in a terminal, plain lines now and then everywhere else. stdout stays free."""

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from bench.kinds.base import Cell
from bench.plan.schedule import Schedule

if TYPE_CHECKING:
    from rich.console import Group

LINE_SECONDS = 5.0
"""Plain lines: at most one in this time."""


class Progress:
    """What a run tells its user, and the one place where an attempt's outcome enters the schedule.

    `started` and `settle` are called by the drivers; a thread draws. Time left is the mean duration of finished cells
    of each kind, times what is left of that kind, over the number of workers.
    """

    def __init__(
        self, state: Schedule, *, workers: int = 1, stream: IO[str] | None = None, quiet: bool = False
    ) -> None:
        self.state = state
        self.workers = workers
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.best: tuple[float, str] | None = None
        """Mean test accuracy and name of the best merged row of this run so far."""
        self._message = ""
        self._running: dict[str, tuple[str, float]] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._began = time.monotonic()
        self._last = ""
        self._live: Any = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    # --- what the drivers say --------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """What goes on while no cell runs yet, e.g. "starting Ray"."""
        self._message = text
        if self._live is None and not self.quiet:
            self._say(text)

    def started(self, cell: Cell) -> None:
        """A worker has begun with `cell`."""
        self._message = ""
        self._running[cell.key] = (cell.label, time.monotonic())

    def settle(
        self, cell: Cell, status: str, seconds: float, error: str = "", headline: Mapping[str, Any] | None = None
    ) -> None:
        """An attempt ended: `status` is "done" or "failed". Moves the cell in the schedule."""
        self._running.pop(cell.key, None)
        if status == "done":
            self.state.finish(cell.key)
            self._seconds[cell.kind].append(seconds)
            self._remember(cell, headline or {})
            return
        blocked = self.state.fail(cell.key, error)
        also = f" (blocks {len(blocked)} more)" if blocked else ""
        self._say(f"failed: {cell.label}: {error}{also}")

    def _remember(self, cell: Cell, headline: Mapping[str, Any]) -> None:
        if cell.ranked and headline:
            row = float(headline["accuracy"]), str(headline["name"])
            self.best = max(self.best or row, row)

    # --- what the user sees ----------------------------------------------------------------------------------------

    def left(self) -> float | None:
        """Seconds until the end, as far as finished cells tell; None before the first."""
        if not self._seconds:
            return None
        means = {kind: sum(found) / len(found) for kind, found in list(self._seconds.items())}
        typical = sum(means.values()) / len(means)
        open_ = [self.state.cells[key] for key in (*self.state.pending, *self.state.running)]
        return sum(means.get(cell.kind, typical) for cell in open_) / max(1, self.workers)

    def running(self) -> list[tuple[str, float]]:
        """Label of each running cell, and seconds since it began; those that wait in a queue are not among them."""
        now = time.monotonic()
        return [(label, now - since) for label, since in list(self._running.values())[: max(1, self.workers)]]

    @property
    def message(self) -> str:
        """What goes on while no cell runs yet."""
        return self._message

    def line(self) -> str:
        """The state in one line."""
        counts = self.state.counts
        running = min(counts.running, len(self._running))
        parts = [f"{counts.done}/{counts.total} cells done", f"{running} running"]
        parts += [f"{n} {name}" for n, name in ((counts.failed, "failed"), (counts.blocked, "blocked")) if n]
        left = self.left()
        if left is not None and not self.state.over:
            parts.append(f"about {duration(left)} left")
        if self.best is not None:
            parts.append(f"best so far {self.best[1]} {100 * self.best[0]:.2f} %")
        return ", ".join(parts)

    def __enter__(self) -> "Progress":
        if self.quiet:
            return self
        if self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self.stream)
            self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._lines, name="bench-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None
        if not self.quiet:
            self._say(f"{self.line()}, {duration(time.monotonic() - self._began)}")

    def _lines(self) -> None:
        while not self._over.wait(LINE_SECONDS):
            if not self._message:
                self._say(self.line())

    def _say(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def _render(self) -> "Group":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        counts = self.state.counts
        bar = ProgressBar(total=max(1, counts.total), completed=counts.done, width=40)
        busy = [f"  {label} {duration(seconds)}" for label, seconds in self.running()]
        lines = [self._message] if self._message else [self.line(), *busy]
        return Group(bar, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def duration(seconds: float) -> str:
    """`75` -> "1:15", `4000` -> "1:06:40", `8` -> "8 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes = f"{rest // 60}:{rest % 60:02}"
    return f"{hours}:{minutes.zfill(5)}" if hours else minutes
