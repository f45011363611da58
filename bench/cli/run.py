"""Verbs that run cells: run, retry."""

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.groups import Which, grouped
from bench.cli.options import STORE, IncludeOption, JsonOption, StoreOption, absolute, command, print_json, print_table
from bench.work.runtime import How

if TYPE_CHECKING:
    from bench.kinds.base import Cell
    from bench.planning.schedule import Schedule
    from bench.store.store import Store


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (run, retry):
        app.command()(grouped(verb))


def run(which: Which, how: How, json: JsonOption = False) -> int:
    """Run the cells of a grid that are not done.

    What the store has is skipped, cells that failed before are tried again, and the best rows are printed at the end.
    Ctrl-C and SIGTERM keep every finished cell; the same command goes on from there. Exit code 1 if a cell failed.
    """
    from bench.store.store import Store

    asked = which.selection
    cells, about = asked.cells(), {"grid": asked.grid, "suite": asked.suite_name}
    return _run(cells, Store(which.store), replace(how, include=asked.include), json, about)


def retry(
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Cells whose last attempt failed.")] = False,
    include: IncludeOption = None,
    store: StoreOption = STORE,
    how: How,
    json: JsonOption = False,
) -> int:
    """Run failed cells again.

    Every cell of the store whose last attempt failed, whatever grid it came from.
    """
    from bench.errors import BenchError
    from bench.kinds import code, from_identity
    from bench.registry import live
    from bench.store.store import Store

    if not failed:
        raise BenchError("say what to retry: `bench retry --failed`")
    opened = Store(store, create=False)
    cells = [from_identity(opened.read_failure(key).get("identity"), key) for key in sorted(opened.failed())]
    how = replace(how, include=absolute(include))
    registry = live.load(how.include)
    for cell in cells:
        code.version(
            registry, cell
        )  # a method that is not here is one line now, not a failure that hides the first one
    return _run(cells, opened, how, json, {})


def _run(cells: "list[Cell]", store: "Store", how: How, json: bool, asked: dict[str, Any]) -> int:
    started = time.monotonic()
    state = execute(cells, store, how)
    _report(state, store, time.monotonic() - started, json, asked)
    return 1 if state.failed or state.blocked else 0


def execute(cells: "list[Cell]", store: "Store", how: How) -> "Schedule":
    """`bench.driver.execute.execute`, shown on stderr; SIGTERM ends it as Ctrl-C does."""
    import signal

    from bench.driver import execute as driver
    from bench.driver.progress import Progress

    progress = Progress()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return driver.execute(cells, store, how, progress, command())
    except KeyboardInterrupt:
        progress.say(
            f"interrupted; {progress.finished} finished cells are in {store.url}, the same command goes on from there"
        )
        raise


def _terminate(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _report(state: "Schedule", store: "Store", seconds: float, json: bool, asked: dict[str, Any]) -> None:
    from bench.cli.summary import inapplicable, top

    best = top(store, [state.cells[key] for key in state.done])
    unable = inapplicable(store, state.done)
    failures = [{"key": k, "cell": state.cells[k].label, "error": error} for k, error in state.failed.items()]
    if json:
        counts = {"total": state.counts.total, "done": len(state.done), "ran": len(state.done) - state.before}
        print_json(
            {**asked, "store": store.url, **counts, "failed": failures, "blocked": len(state.blocked),
             "not_applicable": unable,
             "seconds": round(seconds, 1), "rows": best}
        )  # fmt: skip
        return
    if best:
        print("mean test accuracy, best merged rows first")
        print_table(("row", "accuracy", "scaling", "seeds"), [
            (r["row"], f"{100 * r['accuracy']:.2f}", f"{r['scaling']:g}", r["seeds"]) for r in best
        ], indent="  ")  # fmt: skip
    for row in unable:
        print(f"not applicable: {row['reason']} ({', '.join(row['finetuning'])})")
    for failure in failures:
        print(f"failed: {failure['cell']}: {failure['error']}")
    if state.blocked:
        print(f"blocked by them: {len(state.blocked)} cells; `bench run` tries failed cells again")
    print(f"records: {store.url}")
    at = "" if store.address == str(Path(STORE).resolve()) else f" --store {shlex.quote(store.url)}"
    print("next: " + ", ".join(f"bench {verb}{at}" for verb in ("leaderboard build", "compare A B", "status")))
