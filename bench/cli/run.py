"""Verbs that run cells: run, retry."""

import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.groups import How, Which, grouped
from bench.cli.options import STORE, IncludeOption, JsonOption, StoreOption, absolute, command, print_json, print_table

if TYPE_CHECKING:
    from bench.kinds.base import Cell
    from bench.plan.schedule import Schedule
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
    about = {"grid": which.grid, "suite": which.suite_name()}
    return _execute(which.cells(), which.store, how, which.include, json, about)


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
    known = live.load(absolute(include))
    for cell in cells:
        code.version(known, cell)  # a method that is not here is one line now, not a failure that hides the first one
    return _execute(cells, store, how, include, json, {})


def _execute(
    cells: "list[Cell]", where: str, how: How, include: Iterable[str] | None, json: bool, asked: dict[str, Any]
) -> int:
    started = time.monotonic()
    state, store = execute(cells, where, how, include)
    _report(state, store, time.monotonic() - started, json, asked)
    return 1 if state.failed or state.blocked else 0


def execute(
    cells: "list[Cell]", where: str, how: How, include: Iterable[str] | None = None
) -> "tuple[Schedule, Store]":
    """Run what of the cells is not done; what became of each, and the store they are in."""
    import functools
    import signal

    from bench.cards import suites
    from bench.cli.data import decode_missing, same_rows
    from bench.cli.summary import done_in, hold
    from bench.driver import execute
    from bench.driver.progress import Progress
    from bench.plan import costs, preflight
    from bench.store.store import Store

    files = absolute(include)
    hold(cells, where, files)
    workers, choices = how.workers(), how.choices()
    finished = done_in(where)
    needed = [cell for cell in cells if cell.key not in finished]
    for name in sorted({cell.suite for cell in needed}):
        preflight.require(suites.load(name), [cell for cell in needed if cell.suite == name])
    if not workers.address:  # a cluster's nodes decode for themselves, unless BENCH_CACHE is shared
        decode_missing(needed)
    store = Store(where)
    if not workers.address:
        same_rows(needed, store)
    state = execute.schedule(cells, store)
    again = len(store.failed() & state.pending)
    _say(
        f"{state.counts.total} cells, {state.before} already done"
        + (f", {again} failed before and tried again" if again else "")
    )
    runtime = {"store": store.address, "threads": workers.threads, "include": files, **choices}
    if workers.device == "cuda" and not how.local:
        fraction = workers.gpu_fraction or costs.gpu_share(needed, costs.read("cuda"))
        workers = replace(workers, gpu_fraction=fraction)
        runtime["gpu_fraction"] = workers.gpu_share
    signal.signal(signal.SIGTERM, _terminate)
    try:
        execute.run(
            state,
            store,
            functools.partial(execute.open_session, runtime),
            progress=Progress(state),
            workers=workers,
            local=how.local,
            command=command(),
        )
    except KeyboardInterrupt:
        kept = len(state.done)
        _say(f"interrupted; {kept} finished cells are in {store.url}, the same command goes on from there")
        raise
    return state, store


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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
