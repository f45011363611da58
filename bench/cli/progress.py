"""Verbs that say how far a run is: plan, status."""

import time
from pathlib import Path
from typing import Any

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
    catalogue,
    print_json,
    print_table,
    select,
)
from bench.errors import shown
from bench.progress import duration


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (plan, status):
        app.command()(verb)


def plan(
    grid: GridOption = "smoke",
    suite: SuiteOption = "",
    seeds: SeedsOption = 1,
    methods: MethodsOption = None,
    operators: OperatorsOption = None,
    backbones: BackbonesOption = None,
    recipe: RecipeOption = None,
    include: IncludeOption = None,
    store: StoreOption = STORE,
    json: JsonOption = False,
) -> None:
    """Count the cells of a grid; run nothing.

    By kind: done, pending, failed, and blocked by failed ones; what is left in device hours and disk, as `bench
    calibrate` measured; data and weights that are missing here.
    """
    from bench import preflight, suites
    from bench.cli.calibrate import estimates, lines
    from bench.cli.summary import by_kind, done_in, hold

    chosen = select(grid, suite, seeds, methods, operators, backbones, include, store, recipe)
    hold(chosen.cells, store, absolute(include))
    kinds = by_kind(chosen.cells, store)
    missing = preflight.missing(suites.load(chosen.suite), chosen.cells)
    costs = estimates(chosen.cells, catalogue(include), done_in(store))
    if json:
        found = {"grid": grid, "suite": chosen.suite, "store": shown(store), "cells": len(chosen.cells), "kinds": kinds}
        print_json(found | {"missing": missing, "costs": costs})
        return
    print(f"grid {grid} on suite {chosen.suite}, {seeds} seed{'s' if seeds > 1 else ''}; store {shown(store)}")
    _print_kinds(kinds)
    print("\n".join(lines(costs)))
    if missing:
        print("missing on this machine:", *(f"  {line}" for line in missing), sep="\n")


def status(
    grid: GridOption = "",
    suite: SuiteOption = "",
    seeds: SeedsOption = 1,
    methods: MethodsOption = None,
    operators: OperatorsOption = None,
    backbones: BackbonesOption = None,
    recipe: RecipeOption = None,
    include: IncludeOption = None,
    store: StoreOption = STORE,
    json: JsonOption = False,
) -> None:
    """Say how far a run is, live or dead.

    Read from the store alone: what is done, what failed and why; of every run that is not over, whether its driver is
    alive, what it does, what is left, and the command that goes on when it is dead. With --grid, also what is missing.
    """
    from bench import heartbeat
    from bench.cli.summary import by_kind, failures, inapplicable
    from bench.store import Store

    opened = Store(store, create=False)
    failed, done = failures(opened), opened.done()
    unable = inapplicable(opened, done)
    runs = [run.facts(done) for run in heartbeat.unfinished(opened, done)]
    cells = select(grid, suite, seeds, methods, operators, backbones, include, store, recipe).cells if grid else []
    kinds = by_kind(cells, store)
    if json:
        counts = {"done": len(done), "failed": failed, "not_applicable": unable, "kinds": kinds, "runs": runs}
        print_json({"store": opened.url, **counts})
        return
    print(f"store {opened.url}: {len(done)} cells done, {len(failed)} failed")
    for run in runs:
        _print_run(run)
    for failure in failed:
        print(f"  failed {failure['key']} {failure['cell']}: {failure['error']}")
    for row in unable:
        print(f"  not applicable: {row['reason']} ({', '.join(row['finetuning'])})")
    if kinds:
        print(f"grid {grid}, {seeds} seed{'s' if seeds > 1 else ''}")
        _print_kinds(kinds)
    if failed:
        print("`bench retry --failed` tries them again; the traceback is in failed/KEY.json")


def _print_run(run: dict[str, Any]) -> None:
    left = sum(run["left"].values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in run["left"].items() if count)
    heard = f"last heard of {duration(run['heard_seconds_ago'])} ago"
    what = f"{left} of {run['cells']} cells left{f' ({kinds})' if kinds else ''}"
    who = f"process {run['pid']} on {run['host']}"
    if run["state"] == "alive":
        began = duration(max(0.0, time.time() - run["started_at"]))
        soon = "" if run["left_seconds"] is None else f", about {duration(run['left_seconds'])}"
        print(f"run alive: {who}, for {began}, {heard}: {what}{soon}")
        for cell in run["running"]:
            print(f"  running {cell['cell']}, {duration(cell['seconds'])}")
        if run["message"]:
            print(f"  {run['message']}")
        return
    stopped = "" if run["ended"] == "interrupted" else f" {run['ended']}"
    why = {"dead": " is gone", "silent": " is silent"}.get(run["state"], stopped)
    state = "perhaps dead" if run["state"] == "silent" else run["state"]
    print(f"run {state}: {who}{why}, {heard}: {what}")
    folder = "" if Path(run["folder"]) == Path.cwd() else f" (in {run['folder']})"
    print(f"  to go on: {run['command'] or 'the command that began it'}{folder}")


def _print_kinds(kinds: dict[str, dict[str, int]]) -> None:
    columns = ("cells", "done", "pending", "failed", "blocked")
    total = {c: sum(counts[c] for counts in kinds.values()) for c in columns}
    print_table(
        ("kind", *columns), [(k, *(c[x] for x in columns)) for k, c in [*kinds.items(), ("all", total)]], indent="  "
    )
