"""Verbs that say how far a run is: plan, status."""

import time
from pathlib import Path
from typing import Any

import typer

from bench.cli.groups import Which, grouped
from bench.cli.options import JsonOption, catalogue, print_json, print_table
from bench.driver.progress import duration
from bench.errors import shown

NO_GRID = Which(grid="")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (plan, status):
        app.command()(grouped(verb))


def plan(which: Which, json: JsonOption = False) -> None:
    """Count the cells of a grid; run nothing.

    By kind: done, pending, failed, and blocked by failed ones; what is left in device hours and disk, as `bench
    calibrate` measured; data and weights that are missing here.
    """
    from bench.cards import suites
    from bench.cli.calibrate import estimates, lines
    from bench.cli.summary import by_kind, opened
    from bench.driver.execute import refuse_edited
    from bench.planning import preflight

    asked, store = which.selection, shown(which.store)
    cells, suite = asked.cells(), asked.suite_name
    done: set[str] = set()
    failed: set[str] = set()
    if there := opened(which.store):
        done, failed = there.done(), there.failed()
        refuse_edited(cells, there, asked.include, done)
    kinds = by_kind(cells, done, failed)
    missing = preflight.missing(suites.load(suite), cells)
    costs = estimates(cells, catalogue(which.include), done)
    if json:
        found = {"grid": which.grid, "suite": suite, "store": store, "cells": len(cells), "kinds": kinds}
        print_json(found | {"missing": missing, "costs": costs})
        return
    print(f"grid {which.grid} on suite {suite}, {_seeds(which)}; store {store}")
    _print_kinds(kinds)
    print("\n".join(lines(costs)))
    if missing:
        print("missing on this machine:", *(f"  {line}" for line in missing), sep="\n")


def status(which: Which = NO_GRID, json: JsonOption = False) -> None:
    """Say how far a run is, live or dead.

    Read from the store alone: what is done, what failed and why; of every run that is not over, whether its driver is
    alive, what it does, what is left, and the command that goes on when it is dead. With --grid, also what is missing.
    A run elsewhere that was not heard of for a minute is listened for, 12 seconds at most: clocks may differ.
    """
    from bench.cli.summary import by_kind, failures, inapplicable
    from bench.driver import heartbeat
    from bench.store.store import Store

    opened = Store(which.store, create=False)
    done = opened.done()
    failed = failures(opened, done)
    unable = inapplicable(opened, done)
    runs = [run.facts(done) for run in heartbeat.unfinished(opened, done, patience=heartbeat.LISTEN)]
    kinds = by_kind(which.selection.cells() if which.grid else [], done, {failure["key"] for failure in failed})
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
        print(f"grid {which.grid}, {_seeds(which)}")
        _print_kinds(kinds)
    if failed:
        print("`bench retry --failed` tries them again; the traceback is in failed/KEY.json")


def _seeds(which: Which) -> str:
    return f"{which.seeds} seed{'s' if which.seeds > 1 else ''}"


def _print_run(run: dict[str, Any]) -> None:
    left = sum(run["left"].values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in run["left"].items() if count)
    heard = _heard(run["heard_seconds_ago"], run["clock_ahead_seconds"])
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
    unsure = "perhaps dead" if run["heard_seconds_ago"] > 0 else "perhaps alive"
    state = unsure if run["state"] == "silent" else run["state"]
    print(f"run {state}: {who}{why}, {heard}: {what}")
    folder = "" if Path(run["folder"]) == Path.cwd() else f" (in {run['folder']})"
    print(f"  to go on: {run['command'] or 'the command that began it'}{folder}")


def _heard(ago: float, ahead: float) -> str:
    """When a run was last heard of; a clock by which that makes no sense is said to differ."""
    if ago < -1 or ahead:
        off = f"{duration(abs(ahead or ago))} {'behind' if ahead < 0 else 'ahead of'}"
        when = "last heard of just now" if ahead else "last heard of in the future"
        return f"{when} (the store's clock is {off} this machine's)"
    return f"last heard of {duration(max(0.0, ago))} ago"


def _print_kinds(kinds: dict[str, dict[str, int]]) -> None:
    columns = ("cells", "done", "pending", "failed", "blocked")
    total = {c: sum(counts[c] for counts in kinds.values()) for c in columns}
    print_table(
        ("kind", *columns), [(k, *(c[x] for x in columns)) for k, c in [*kinds.items(), ("all", total)]], indent="  "
    )
