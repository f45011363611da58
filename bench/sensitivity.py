"""Sensitivity to lambda: the curve, the value that validation chooses, and what the search cost.

Points are compared by mean accuracy, not by accuracy normalised with their own experts: the experts change with lambda,
and an own-normalised figure would reward the strengths that ruin them. Each point is taken at the scaling coefficient
that its own validation sweep chose; the test split never takes part.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.errors import BenchError
from bench.metrics import accuracy, mean_accuracy
from bench.results import needs, seconds

NAMES = ("suite", "backbone", "finetuning", "operator")


def best_strength(points: Mapping[float, Mapping[str, float]]) -> float:
    """The strength with the highest mean validation accuracy; ties go to the smaller one.

    points: {strength: {task, or seed and task: accuracy}}, the same entries at every strength.
    """
    if not points:
        raise BenchError("a strength cannot be chosen from no points; run the grid 'strength' first")
    entries = {frozenset(by_task) for by_task in points.values()}
    if len(entries) > 1:
        raise BenchError("strengths are compared on the same tasks and seeds only; finish the grid 'strength' first")
    return max(sorted(points), key=lambda s: mean_accuracy(points[s]))


def sensitivity(rows: pa.Table, cells: pa.Table) -> list[dict[str, Any]]:
    """One entry for every fine-tuning method and operator that has points, by name; JSON values.

    Each has `curve`, a list of {strength, validation, test, measured, wanted} with mean accuracies (None and not chosen
    from where a task or seed is missing), `chosen`, and the price in seconds from provenance: `search_seconds` for all
    points and their experts, each cell once, `chosen_seconds` for the chosen point alone.
    """
    found: dict[tuple[str, ...], dict[float, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows.filter(pc.equal(rows["kind"], "strength")).to_pylist():
        if row["selected"]:
            found[tuple(row[n] for n in NAMES)][json.loads(row["options"])["strength"]].append(row)
    paid = Prices(cells)
    return [_entry(name, found[name], paid) for name in sorted(found)]


def _entry(name: tuple[str, ...], by_strength: Mapping[float, list[dict[str, Any]]], paid: "Prices") -> dict[str, Any]:
    wanted = {f"{r['seed']}/{r['task']}" for rows in by_strength.values() for r in rows}
    curve, points = [], {}
    for strength in sorted(by_strength):
        parts = {}
        for split in ("validation", "test"):
            here = [r for r in by_strength[strength] if r["split"] == split]
            parts[split] = {f"{r['seed']}/{r['task']}": accuracy(r["correct"], r["total"]) for r in here}
        complete = parts["validation"].keys() == parts["test"].keys() == wanted
        if complete:
            points[strength] = parts["validation"]
        means = {split: mean_accuracy(by) if complete else None for split, by in parts.items()}
        curve.append({"strength": strength, **means, "measured": len(parts["test"]), "wanted": len(wanted)})
    chosen = best_strength(points) if points else None
    keys = {strength: {r["key"] for r in rows} for strength, rows in by_strength.items()}
    return {
        **dict(zip(NAMES, name, strict=True)),
        "curve": curve,
        "chosen": chosen,
        "search_seconds": paid.of(key for some in keys.values() for key in some),
        "chosen_seconds": paid.of(keys[chosen]) if chosen is not None else None,
    }


class Prices:
    """Seconds of cells and of everything that they were made from, as recorded when they ran."""

    def __init__(self, cells: pa.Table) -> None:
        columns = [cells[name].to_pylist() for name in ("key", "identity", "provenance")]
        self._known = {
            key: (needs(json.loads(identity)), seconds(json.loads(provenance)) or 0.0)
            for key, identity, provenance in zip(*columns, strict=True)
        }

    def of(self, keys: Iterable[str]) -> float:
        """Seconds of `keys` and of the experts behind them, each cell once."""
        wanted = set(keys)
        wanted |= {need for key in wanted if key in self._known for need in self._known[key][0]}
        return round(sum(self._known[key][1] for key in sorted(wanted) if key in self._known), 3)
