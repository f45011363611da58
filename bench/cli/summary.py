"""What a store says about a plan, in the few numbers that verbs print. Neither torch nor ray."""

import json
from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean
from typing import Any

import pyarrow.compute as pc

from bench.errors import BenchError, NoStore
from bench.ground import metrics
from bench.kinds import from_identity
from bench.kinds.base import Cell
from bench.plan.schedule import Schedule
from bench.store.store import Store

TOP = 5
SHOWN = ["key", "backbone", "finetuning", "operator", "task", "scaling", "correct", "total"]


def by_kind(cells: Iterable[Cell], done: set[str], failed: set[str]) -> dict[str, dict[str, int]]:
    """Cells, done, pending, failed and blocked of each kind, of a store that has these keys."""
    plan = list(cells)
    state = Schedule(plan, done)
    broken = failed - done
    while (cell := state.take()) is not None:  # play the run: what is not a recorded failure would succeed
        if cell.key in broken:
            state.fail(cell.key, "")
        else:
            state.finish(cell.key)
    kinds: dict[str, dict[str, int]] = {}
    for cell in plan:
        counts = kinds.setdefault(cell.kind, dict.fromkeys(("cells", "done", "pending", "failed", "blocked"), 0))
        counts["cells"] += 1
        undone = "failed" if cell.key in broken else "blocked" if cell.key in state.blocked else "pending"
        counts["done" if cell.key in done else undone] += 1
    return kinds


def opened(where: str) -> Store | None:
    """The store, or None when it does not exist yet."""
    try:
        return Store(where, create=False)
    except NoStore:
        return None


def failures(store: Store, done: set[str]) -> list[dict[str, Any]]:
    """Every recorded failure that no later success has made void."""
    recorded = []
    for key in sorted(store.failed() - done):
        failure = store.read_failure(key)
        try:
            label = from_identity(failure.get("identity"), key).label
        except BenchError:
            label = "(a cell of another version)"
        recorded.append({"key": key, "cell": label, "error": failure.get("error", "")})
    return recorded


def inapplicable(store: Store, keys: Iterable[str]) -> list[dict[str, Any]]:
    """Finished merges whose operator cannot take the experts: operator, reason and the fine-tuning methods."""
    methods_of: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    _, cells = store.tables(keys)
    for line in cells.filter(pc.match_substring(cells["metrics"], "not_applicable")).to_pylist():
        identity, metrics = json.loads(line["identity"]), json.loads(line["metrics"])
        methods_of[identity["operator"], metrics["not_applicable"]][identity["finetuning"]] = None
    return [
        {"operator": operator, "reason": reason, "finetuning": sorted(methods)}
        for (operator, reason), methods in sorted(methods_of.items())
    ]


def top(store: Store, cells: Iterable[Cell], count: int = TOP) -> list[dict[str, Any]]:
    """The merged rows of `cells` with the highest mean test accuracy: over tasks, then over seeds."""
    rows, _ = store.tables(cell.key for cell in cells if cell.ranked)
    tested = defaultdict(list)
    for row in rows.filter(pc.equal(rows["split"], "test")).select(SHOWN).to_pylist():
        tested[row["key"]].append(row)
    points: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for of_cell in tested.values():
        first = of_cell[0]
        mean = metrics.mean_accuracy({r["task"]: metrics.accuracy(r["correct"], r["total"]) for r in of_cell})
        points[first["backbone"], f"{first['finetuning']}/{first['operator']}"].append((mean, first["scaling"]))
    lines: list[dict[str, Any]] = [
        {
            "row": name,
            "backbone": backbone,
            "accuracy": fmean(accuracy for accuracy, _ in seeds),
            "scaling": fmean(scaling for _, scaling in seeds),
            "seeds": len(seeds),
        }
        for (backbone, name), seeds in points.items()
    ]
    return sorted(lines, key=lambda row: (-row["accuracy"], row["row"]))[:count]
