"""What stands beside the boards: the effect of a regulariser, curves over coefficients and lambda, geometry."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.tables import collect, stats
from bench.tables.collect import Lines
from bench.tables.line import Line
from bench.tables.strength import sensitivity

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
    found = lines.differences([(line, plain) for _, _, line, plain in pairs])
    usable = [(method, operator, e) for (method, operator, _, _), e in zip(pairs, found, strict=True) if e is not None]
    adjusted = stats.holm([e.p for _, _, e in usable])
    cells = [
        {
            "method": method,
            "operator": operator,
            "difference": collect.percent(e.value),
            "low": collect.percent(e.low),
            "high": collect.percent(e.high),
            "p": round(p, 4),
            "significant": p < 1 - stats.CONFIDENCE,
        }
        for (method, operator, e), p in zip(usable, adjusted, strict=True)
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
    sweeps = collect.sweeps(rows, lines.addition)
    for line in lines.addition:
        points = sweeps.get(line.name, {})
        if len(points) > 1:
            operator = line.name.partition("/")[2]
            found[operator][line.finetuning] = [[s, collect.percent(v)] for s, v in points.items()]
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
    """Accuracy against lambda, the value that validation chose, what the search cost; see `bench.tables.strength`."""
    found = []
    for entry in sensitivity(rows.filter(pc.equal(rows["suite"], lines.suite)), cells):
        curve = [{**p, **{k: collect.percent(p.get(k)) for k in ("validation", "test")}} for p in entry["curve"]]
        found.append({**entry, "curve": curve})
    return found
