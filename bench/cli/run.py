"""Verbs that run cells: run, retry."""

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bench.cli.options import (
    STORE,
    BackbonesOption,
    GridOption,
    IncludeOption,
    JsonOption,
    MethodsOption,
    OperatorsOption,
    RecipeOption,
    SeedsOption,
    StoreOption,
    SuiteOption,
    absolute,
    command,
    print_json,
    print_table,
    select,
)
from bench.runtime import parse

if TYPE_CHECKING:
    from bench.cells import Cell
    from bench.driver import Workers
    from bench.schedule import Schedule
    from bench.store import Store

LocalOption = Annotated[bool, typer.Option("--local", help="Run in this process, one cell at a time, without Ray.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=0, help="Cells at once; 0: as many as there are cores.")]
AddressOption = Annotated[str, typer.Option("--address", help="Join a Ray cluster: auto, or HOST:PORT.")]
DeviceOption = Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where cells compute.")]
FractionOption = Annotated[
    float, typer.Option("--gpu-fraction", help="Share of a GPU for a cell; 0: as measured by calibrate.")
]
TimeoutOption = Annotated[float, typer.Option("--cell-timeout", help="Seconds after which a cell fails; 0: never.")]
MemoryOption = Annotated[
    float, typer.Option("--memory-limit", min=0, help="GiB that cells may take in a process; 0: no limit.")
]
RuntimeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime", help="NAME=VALUE: batch_size, checkpointing, deterministic, resident, fast or save_minutes."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (run, retry):
        app.command()(verb)


def run(
    grid: GridOption = "smoke",
    suite: SuiteOption = "",
    seeds: SeedsOption = 1,
    methods: MethodsOption = None,
    operators: OperatorsOption = None,
    backbones: BackbonesOption = None,
    recipe: RecipeOption = None,
    include: IncludeOption = None,
    store: StoreOption = STORE,
    local: LocalOption = False,
    workers: WorkersOption = 0,
    address: AddressOption = "",
    device: DeviceOption = "cpu",
    gpu_fraction: FractionOption = 0.0,
    cell_timeout: TimeoutOption = 0.0,
    memory_limit: MemoryOption = 0.0,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> int:
    """Run the cells of a grid that are not done.

    What the store has is skipped, cells that failed before are tried again, and the best rows are printed at the end.
    Ctrl-C and SIGTERM keep every finished cell; the same command goes on from there. Exit code 1 if a cell failed.
    """
    from bench.driver import Workers

    chosen = select(grid, suite, seeds, methods, operators, backbones, include, store, recipe)
    asked = Workers(workers, device, gpu_fraction, address, cell_timeout=cell_timeout)
    about = {"grid": grid, "suite": chosen.suite}
    return _execute(
        chosen.cells,
        store,
        asked,
        absolute(include),
        local,
        json,
        about,
        parse(runtime) | {"memory_limit": memory_limit},
    )


def retry(
    failed: Annotated[bool, typer.Option("--failed", help="Cells whose last attempt failed.")] = False,
    include: IncludeOption = None,
    store: StoreOption = STORE,
    local: LocalOption = False,
    workers: WorkersOption = 0,
    address: AddressOption = "",
    device: DeviceOption = "cpu",
    gpu_fraction: FractionOption = 0.0,
    cell_timeout: TimeoutOption = 0.0,
    memory_limit: MemoryOption = 0.0,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> int:
    """Run failed cells again.

    Every cell of the store whose last attempt failed, whatever grid it came from.
    """
    from bench.cells import from_identity
    from bench.driver import Workers
    from bench.errors import BenchError
    from bench.store import Store

    if not failed:
        raise BenchError("say what to retry: `bench retry --failed`")
    opened = Store(store, create=False)
    cells = [from_identity(opened.read_failure(key).get("identity"), key) for key in sorted(opened.failed())]
    order = {"zeroshot": 0, "expert": 1, "imported": 1}
    cells.sort(key=lambda cell: order.get(cell.kind, 2))
    asked = Workers(workers, device, gpu_fraction, address, cell_timeout=cell_timeout)
    return _execute(
        cells, store, asked, absolute(include), local, json, {}, parse(runtime) | {"memory_limit": memory_limit}
    )


def _execute(
    cells: "list[Cell]",
    where: str,
    workers: "Workers",
    include: tuple[str, ...],
    local: bool,
    json: bool,
    asked: dict[str, Any],
    how: dict[str, Any],
) -> int:
    started = time.monotonic()
    state, store = execute(cells, where, workers, include, local, how)
    _report(state, store, time.monotonic() - started, json, asked)
    return 1 if state.failed or state.blocked else 0


def execute(
    cells: "list[Cell]",
    where: str,
    workers: "Workers",
    include: tuple[str, ...],
    local: bool,
    how: Mapping[str, Any] | None = None,
) -> "tuple[Schedule, Store]":
    """Run what of the cells is not done; what became of each, and the store they are in."""
    import functools
    import signal

    from bench import costs, driver, preflight, suites
    from bench.cli.data import decode_missing, same_rows
    from bench.cli.summary import done_in, hold
    from bench.progress import Progress
    from bench.store import Store

    hold(cells, where, include)
    finished = done_in(where)
    needed = [cell for cell in cells if cell.key not in finished]
    for name in sorted({cell.suite for cell in needed}):
        preflight.require(suites.load(name), [cell for cell in needed if cell.suite == name])
    if not workers.address:  # a cluster's nodes decode for themselves, unless BENCH_CACHE is shared
        decode_missing(needed)
    store = Store(where)
    if not workers.address:
        same_rows(needed, store)
    state = driver.schedule(cells, store)
    again = len(store.failed() & state.pending)
    _say(
        f"{state.counts.total} cells, {state.before} already done"
        + (f", {again} failed before and tried again" if again else "")
    )
    runtime = {"store": store.address, "device": workers.device, "threads": workers.threads, "include": include}
    if workers.device == "cuda" and not local:
        fraction = workers.gpu_fraction or costs.gpu_share(needed, costs.read("cuda"))
        workers = replace(workers, gpu_fraction=fraction)
        runtime["gpu_fraction"] = workers.gpu_share
    runtime |= how or {}
    signal.signal(signal.SIGTERM, _terminate)
    try:
        driver.run(
            state,
            store,
            functools.partial(driver.open_session, runtime),
            progress=Progress(state),
            workers=workers,
            local=local,
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
    print("next: bench leaderboard build, bench compare A B, bench status")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
