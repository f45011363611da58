"""Sensitivity to lambda: the curve, the value that validation chooses, and what the search cost.

Points are compared by mean accuracy, not by accuracy normalised with their own experts: the experts change with lambda,
and an own-normalised figure would reward the strengths that ruin them. Each point is taken at the scaling coefficient
that its own validation sweep chose; the test split never takes part. Merges whose experts differ in more than lambda
and seed never share a curve.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.errors import BenchError
from bench.ground.metrics import accuracy, mean_accuracy
from bench.kinds.strength import STRENGTHS
from bench.store.results import needs, seconds

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
    from where a task or seed is missing), `chosen`, `measured` of `declared` strengths, and the price in seconds from
    provenance: `search_seconds` for all points and their experts, each cell once, `chosen_seconds` for the chosen point
    alone (None where a cell did not record them). `name` is FINETUNING/OPERATOR, with the backbone or a tag of the
    recipe where that would name two curves.
    """
    known = _Cells(cells)
    found: dict[tuple[str, ...], dict[float, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows.filter(pc.equal(rows["kind"], "strength")).to_pylist():
        if row["selected"]:
            way = known.way(row["key"])
            found[*(row[n] for n in NAMES), way][json.loads(row["options"])["strength"]].append(row)
    backbones, names = {name[1] for name in found}, [name[:-1] for name in found]
    entries = []
    for name in sorted(found):
        label = f"{name[2]}/{name[3]}" + f"[{name[1]}]" * (len(backbones) > 1)
        label += f"[{name[-1]}]" * (names.count(name[:-1]) > 1)
        entries.append({"name": label, **_entry(name[:-1], found[name], known)})
    return entries


def _entry(name: tuple[str, ...], by_strength: Mapping[float, list[dict[str, Any]]], known: "_Cells") -> dict[str, Any]:
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
        "measured": len(points),
        "declared": len({*STRENGTHS, *by_strength}),
        "search_seconds": known.price(key for some in keys.values() for key in some),
        "chosen_seconds": known.price(keys[chosen]) if chosen is not None else None,
    }


class _Cells:
    """What cells were made from, and how many seconds they and their experts took, as recorded when they ran."""

    def __init__(self, cells: pa.Table) -> None:
        columns = [cells[name].to_pylist() for name in ("key", "identity", "provenance")]
        self._known = {
            key: (json.loads(identity), seconds(json.loads(provenance)))
            for key, identity, provenance in zip(*columns, strict=True)
        }

    def price(self, keys: Iterable[str]) -> float | None:
        """Seconds of `keys` and of the experts behind them, each cell once; None where one did not record its own."""
        wanted = set(keys)
        wanted |= {need for key in wanted for need in self._needs(key)}
        taken = [self._known[key][1] if key in self._known else None for key in sorted(wanted)]
        return None if None in taken else round(sum(filter(None, taken)), 3)

    def way(self, key: str) -> str:
        """Four hex digits of everything about a merge and its experts but lambda and seed."""
        merge, _ = self._known.get(key, ({}, None))
        experts = [self._known[need][0] for need in self._needs(key) if need in self._known]
        made = [
            {n: v for n, v in e.items() if n not in ("kind", "seed", "recipe")}
            | {"recipe": {n: v for n, v in (e.get("recipe") or {}).items() if n != "strength"}}
            for e in experts
        ]
        parts = [{n: v for n, v in merge.items() if n not in ("strength", "seed", "experts")}, *made]
        text = "\n".join(sorted(json.dumps(part, sort_keys=True) for part in parts))
        return hashlib.sha256(text.encode()).hexdigest()[:4]

    def _needs(self, key: str) -> list[str]:
        return needs(self._known[key][0]) if key in self._known else []
