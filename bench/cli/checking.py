"""`bench check FILE`: the laws of every operator in a user's file, then the smoke grid with it in a scratch store."""

import tempfile
from pathlib import Path
from typing import Any

from bench.checks import laws
from bench.cli.summary import top
from bench.driver.execute import execute
from bench.errors import BenchError
from bench.planning.selection import Selection
from bench.registry import live
from bench.store.store import Store
from bench.work.runtime import How


def check_file(file: str, *, quick: bool = False) -> list[dict[str, Any]]:
    """One report for each operator in `file`: name, problems (one line each), and what the smoke run gave."""
    path = str(Path(file).resolve())
    before = live.load()
    with_file = live.load([path])
    mine = {name: op for name, op in with_file.operators.items() if name not in before.operators}
    if not mine:
        raise BenchError(f"{file}: no merging operator in it; assign an Operator at module level")
    reports: list[dict[str, Any]] = [
        {"name": name, "problems": laws.broken(op), "smoke": ""} for name, op in mine.items()
    ]
    sound = [report["name"] for report in reports if not report["problems"]]
    if sound and not quick:
        found = _smoke(path, sound)
        for report in reports:
            line = found.get(report["name"], "")
            if line.startswith("failed"):
                report["problems"].append(f"{report['name']}: {line}")
            else:
                report["smoke"] = line
    return reports


def _smoke(path: str, operators: list[str]) -> dict[str, str]:
    cells = Selection(methods=("nonlinear",), operators=operators, include=(path,)).cells()
    with tempfile.TemporaryDirectory(prefix="bench-check-") as folder:
        store = Store(folder)
        state = execute(cells, store, How(local=True, include=(path,)))
        lines = {
            row["row"].partition("/")[2]: f"mini8, two tasks, few steps: accuracy {100 * row['accuracy']:.2f} %"
            for row in top(store, cells, len(operators))
        }
    errors = [f"{cell.label}: {state.failed[key]}" for key, cell in state.cells.items() if key in state.failed]
    return {name: lines.get(name) or f"failed on mini8: {'; '.join(errors) or 'no result'}" for name in operators}
