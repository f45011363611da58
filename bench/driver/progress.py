"""Progress on stderr: one live display in a terminal, plain lines now and then everywhere else. stdout stays free."""

import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from bench.driver.base import Drive, Observer
from bench.kinds.base import Cell
from bench.kinds.protocol import Outcome
from bench.planning.schedule import Schedule

if TYPE_CHECKING:
    from rich.console import Group

LINE_SECONDS = 5.0
"""Plain lines: at most one in this time."""


class Progress(Observer):
    """What a run tells its user; a thread draws."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stderr
        self.best: tuple[float, str] | None = None
        """Mean test accuracy and name of the best merged row of this run so far."""
        self.finished = 0
        """Cells of the plan that are done."""
        self._drive = Drive(Schedule([]))
        self._last = ""
        self._live: Any = None
        self._bar: Any = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    # --- what the driver tells -------------------------------------------------------------------------------------

    def planned(self, state: Schedule, again: int) -> None:
        self.finished = state.before
        tried = f", {again} failed before and tried again" if again else ""
        self.say(f"{state.counts.total} cells, {state.before} already done{tried}")

    def note(self, text: str) -> None:
        if self._live is None:
            self.say(text)

    def settled(self, cell: Cell, outcome: Outcome, blocked: Sequence[Cell]) -> None:
        if outcome.status != "done":
            also = f" (blocks {len(blocked)} more)" if blocked else ""
            self.say(f"failed: {cell.label}: {outcome.error}{also}")
            return
        self.finished += 1
        headline = outcome.headline
        if cell.ranked and headline:
            row = float(headline["accuracy"]), str(headline["name"])
            self.best = max(self.best or row, row)

    def decoding(self, what: str, done: int, total: int) -> None:
        """A bar on a terminal, nothing elsewhere."""
        if not self.stream.isatty():
            return
        from rich.console import Console
        from rich.progress import Progress as Bars

        if self._bar is None:
            self._bar = Bars(console=Console(file=self.stream), transient=True)
            self._bar.start()
            self._bar.add_task(what, total=total)
        self._bar.update(self._bar.task_ids[0], completed=done)
        if done >= total:
            self._bar.stop()
            self._bar = None

    # --- what the user sees ----------------------------------------------------------------------------------------

    def line(self) -> str:
        """The state in one line."""
        counts = self._drive.state.counts
        running = min(counts.running, len(self._drive.began))
        parts = [f"{counts.done}/{counts.total} cells done", f"{running} running"]
        parts += [f"{n} {name}" for n, name in ((counts.failed, "failed"), (counts.blocked, "blocked")) if n]
        left = self._drive.left()
        if left is not None and not self._drive.state.over:
            parts.append(f"about {duration(left)} left")
        if self.best is not None:
            parts.append(f"best so far {self.best[1]} {100 * self.best[0]:.2f} %")
        return ", ".join(parts)

    def begin(self, drive: Drive) -> None:
        self._drive, self._began = drive, time.monotonic()
        if self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self.stream)
            self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._lines, name="bench-progress", daemon=True)
            self._thread.start()

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None
        self.say(f"{self.line()}, {duration(time.monotonic() - self._began)}")

    def _lines(self) -> None:
        while not self._over.wait(LINE_SECONDS):
            if not self._drive.message:
                self.say(self.line())

    def say(self, text: str) -> None:
        """Print a line, above the display where there is one; not the same line twice in a row."""
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

        drive = self._drive
        counts = drive.state.counts
        bar = ProgressBar(total=max(1, counts.total), completed=counts.done, width=40)
        busy = [f"  {label} {duration(seconds)}" for label, seconds in drive.running()]
        lines = [drive.message] if drive.message else [self.line(), *busy]
        return Group(bar, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def duration(seconds: float) -> str:
    """`75` -> "1:15", `4000` -> "1:06:40", `8` -> "8 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes = f"{rest // 60}:{rest % 60:02}"
    return f"{hours}:{minutes.zfill(5)}" if hours else minutes
