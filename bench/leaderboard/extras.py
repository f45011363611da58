"""What stands beside the boards: the effect of a regulariser, coefficient curves, geometry and curves over subsets."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench import stats, tables
from bench.lines import Line, difference
from bench.metrics import accuracy, mean_accuracy, normalised_accuracy
from bench.sensitivity import sensitivity
from bench.tables import Lines

Found = dict[str, Any]


def effects(lines: Lines) -> list[Found]:
    """For every regulariser and backbone a map, fine-tuning method x operator: accuracy with minus without it.

    Holm is applied over the differences of one map. Cells that were not measured both ways are left out; those that
    cannot be are named.
    """
    complete: dict[tuple[str, ...], Line] = {
        (line.backbone, line.board, line.finetuning, line.name.partition("/")[2]): line
        for line in lines.addition
        if line.complete
    }
    pairs: dict[tuple[str, str], list[tuple[str, str, Line, Line]]] = defaultdict(list)
    for (backbone, board, finetuning, operator), line in complete.items():
        method, _, regulariser = finetuning.partition("+")
        plain = complete.get((backbone, board, method, operator))
        if regulariser and plain is not None:
            pairs[backbone, regulariser].append((method, operator, line, plain))
    maps = [_effect(lines, backbone, regulariser, found) for (backbone, regulariser), found in sorted(pairs.items())]
    return [found for found in maps if found["cells"]]


def _effect(lines: Lines, backbone: str, regulariser: str, pairs: Sequence[tuple[str, str, Line, Line]]) -> Found:
    outcomes = [(method, operator, difference(line, plain)) for method, operator, line, plain in pairs]
    usable = [(method, operator, found[0]) for method, operator, found in outcomes if found is not None]
    prior = lines.seed_prior(pairs[0][2], paired=True)
    estimates = stats.estimates([outcome for _, _, outcome in usable], prior=prior)
    adjusted = stats.holm([e.p for e in estimates])
    cells = [
        {
            "method": method,
            "operator": operator,
            "difference": tables.percent(e.value),
            "low": tables.percent(e.low),
            "high": tables.percent(e.high),
            "p": round(p, 4),
            "significant": p < 1 - stats.CONFIDENCE,
        }
        for (method, operator, _), e, p in zip(usable, estimates, adjusted, strict=True)
    ]
    return {
        "regulariser": regulariser,
        "backbone": backbone,
        "methods": list(dict.fromkeys(c["method"] for c in cells)),
        "operators": sorted({c["operator"] for c in cells}),
        "cells": cells,
        "inapplicable": sorted(
            {
                (line.finetuning.partition("+")[0], line.name.partition("/")[2])
                for line in lines.inapplicable
                if line.kind == "addition" and line.backbone == backbone
            }
        ),
    }


def curves(rows: pa.Table, lines: Lines) -> list[Found]:
    """Validation accuracy against the scaling coefficient, one entry per operator: {finetuning: [[scaling, %],
    ...]}.
    """
    found: dict[str, dict[str, list[list[float | None]]]] = defaultdict(dict)
    sweeps = tables.sweeps(rows, lines.addition)
    for line in lines.addition:
        points = sweeps.get(line.name, {})
        if len(points) > 1:
            operator = line.name.partition("/")[2]
            found[operator][line.finetuning] = [[s, tables.percent(v)] for s, v in points.items()]
    return [{"operator": operator, "curves": found[operator]} for operator in sorted(found)]


def geometry(lines: Lines) -> list[Found]:
    """Cosine similarity between task vectors per fine-tuning method, mean over seeds; from cells that measured it."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for cell in lines.cells.values():
        identity, metrics = cell["identity"], cell["metrics"]
        if (
            identity.get("suite") == lines.suite
            and set(metrics.get("tasks", ())) == set(lines.tasks)
            and "cosine" in metrics
        ):
            found[identity.get("backbone", ""), identity.get("finetuning", "")].append(metrics)
    maps = []
    for (backbone, finetuning), measured in sorted(found.items()):
        same = [m for m in measured if m["tasks"] == measured[0]["tasks"]]
        cosine = np.mean([m["cosine"] for m in same], axis=0)
        norms = np.mean([m["norms"] for m in same], axis=0) if all("norms" in m for m in same) else np.array([])
        off = cosine[~np.eye(len(cosine), dtype=bool)]
        maps.append(
            {
                "finetuning": finetuning,
                "backbone": backbone,
                "tasks": list(measured[0]["tasks"]),
                "cosine": [[round(float(v), 3) for v in row] for row in cosine],
                "mean": round(float(np.abs(off).mean()), 3) if off.size else None,
                "norms": [round(float(v), 3) for v in norms],
            }
        )
    return maps


def strengths(rows: pa.Table, cells: pa.Table, lines: Lines) -> list[Found]:
    """Accuracy against lambda, the value that validation chose, and what the search cost; see `bench.sensitivity`."""
    found = []
    for entry in sensitivity(rows.filter(pc.equal(rows["suite"], lines.suite)), cells):
        curve = [{**p, **{k: tables.percent(p.get(k)) for k in ("validation", "test")}} for p in entry["curve"]]
        found.append({**entry, "curve": curve})
    return found


def subsets(rows: pa.Table, lines: Lines) -> list[Found]:
    """Accuracy against the number of merged tasks: per row name the mean over measured subsets of every size, on the
    seeds that all sizes have. Merges that differ in more than their tasks never share a curve.
    """
    wanted = pc.and_(pc.equal(rows["kind"], "addition"), pc.equal(rows["split"], "test"))
    wanted = pc.and_(wanted, pc.equal(rows["suite"], lines.suite))
    names = ("key", "finetuning", "operator", "tasks", "seed", "task", "correct", "total")
    merged: dict[tuple[str, str, str, int], dict[str, float]] = defaultdict(dict)
    for key, finetuning, operator, tasks, seed, task, correct, total in zip(
        *(rows.filter(wanted)[name].to_pylist() for name in names), strict=True
    ):
        merged[key, f"{finetuning}/{operator}", tasks, seed][task] = accuracy(correct, total)
    points: dict[tuple[str, str], dict[int, dict[int, list[tuple[float, float]]]]] = defaultdict(dict)
    for (key, name, tasks, seed), by_task in merged.items():
        size = len(tasks.split("+"))
        experts = dict(lines.by_key[k] for k in lines.upstream(key) if k in lines.by_key)
        if len(by_task) == size and set(by_task) <= set(experts) and min(experts.values()) > 0:
            found = points[name, _way(lines, key)].setdefault(size, defaultdict(list))
            found[seed].append((mean_accuracy(by_task), normalised_accuracy(by_task, experts)))
    curves = {way: found for way, by_size in points.items() if len(found := _shared(by_size)) > 1}
    ways = [name for name, _ in curves]
    return [
        {
            "name": name if ways.count(name) == 1 else f"{name}[{hashlib.sha256(way.encode()).hexdigest()[:4]}]",
            "points": [
                {
                    "tasks": size,
                    "merges": len(values),
                    "accuracy": tables.percent(float(np.mean([v[0] for v in values]))),
                    "normalised": tables.percent(float(np.mean([v[1] for v in values]))),
                }
                for size, values in sorted(found.items())
            ],
        }
        for (name, way), found in sorted(curves.items())
    ]


def _way(lines: Lines, key: str) -> str:
    """Everything about a merge but its tasks and its seed."""
    identity = lines.cells.get(key, {}).get("identity", {})
    return json.dumps({k: v for k, v in identity.items() if k not in ("tasks", "experts", "seed")}, sort_keys=True)


def _shared(
    by_size: Mapping[int, Mapping[int, list[tuple[float, float]]]],
) -> dict[int, list[tuple[float, float]]]:
    """The values of every size on the seeds that all sizes have."""
    seeds = set.intersection(*map(set, by_size.values()))
    return {size: [v for s in sorted(seeds) for v in found[s]] for size, found in by_size.items()} if seeds else {}
