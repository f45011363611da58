"""What a store says about a plan, in the few numbers that verbs print. Neither torch nor ray."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow.compute as pc

from bench.errors import BenchError, NoStore
from bench.kinds import from_identity
from bench.kinds.base import Cell
from bench.planning.schedule import Schedule
from bench.store.records import Cells
from bench.store.store import Store

TOP = 5


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
    methods: dict[tuple[str, str], set[str]] = defaultdict(set)
    for cell in Cells(store.tables(keys)[1]).values():
        if "not_applicable" in cell.metrics:
            methods[cell.identity["operator"], cell.metrics["not_applicable"]].add(cell.identity["finetuning"])
    return [
        {"operator": operator, "reason": reason, "finetuning": sorted(methods[operator, reason])}
        for operator, reason in sorted(methods)
    ]


def top(store: Store, cells: Iterable[Cell], count: int = TOP) -> list[dict[str, Any]]:
    """The merged rows of `cells` with the highest mean test accuracy: over tasks, then over seeds."""
    from bench.tables import frames

    rows, _ = store.tables(cell.key for cell in cells if cell.ranked)
    test = frames.of_rows(rows.filter(pc.equal(rows["split"], "test")))
    way = ["backbone", "finetuning", "operator"]
    by_cell = test.groupby([*way, "key"], observed=True)[["accuracy", "scaling"]].mean()
    best = by_cell.groupby(way, observed=True).mean().assign(seeds=by_cell.groupby(way, observed=True).size())
    best = best.reset_index().assign(row=lambda t: t["finetuning"].astype(str) + "/" + t["operator"].astype(str))
    best = best.sort_values(["accuracy", "row"], ascending=[False, True]).head(count)
    lines: list[Any] = best[["row", "backbone", "accuracy", "scaling", "seeds"]].to_dict("records")
    return lines
