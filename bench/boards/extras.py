"""What stands beside the boards: the effect of a regulariser, curves over coefficients and strengths, geometry."""

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench.ground import names
from bench.tables import collect, frames, stats
from bench.tables.collect import Lines
from bench.tables.strength import sensitivity

Found = dict[str, Any]


def effects(lines: Lines) -> list[Found]:
    """For every regulariser and backbone a map, fine-tuning method x operator: accuracy with minus without it.

    Holm is applied over the differences of one map. Cells that were not measured both ways are left out; those that
    cannot be are named.
    """
    rows = [
        (line.backbone, line.board, line.finetuning, line.variant, line) for line in lines.addition if line.complete
    ]
    table = pd.DataFrame(rows, columns=["backbone", "board", "finetuning", "operator", "line"])
    trained = table["finetuning"].map(names.finetuning)
    table = table.assign(method=[str(t.plain) for t in trained], regularizer=[t.regularizer for t in trained])
    plain, regular = table[table["regularizer"] == ""], table[table["regularizer"] != ""]
    pairs = regular.merge(plain, on=["backbone", "board", "method", "operator"], suffixes=("", "_plain"))
    maps = [_effect(lines, b, r, part) for (b, r), part in frames.groups(pairs, "backbone", "regularizer").items()]
    return [effect for effect in maps if effect["cells"]]


def _effect(lines: Lines, backbone: str, regularizer: str, pairs: pd.DataFrame) -> Found:
    estimates = lines.differences(list(zip(pairs["line"], pairs["line_plain"], strict=True)))
    usable = pairs.assign(estimate=pd.Series(estimates, pairs.index, object)).dropna(subset="estimate")
    adjusted = stats.holm([e.p for e in usable["estimate"]])
    cells = [
        {
            "method": method,
            "operator": operator,
            "difference": frames.percent(e.value),
            "low": frames.percent(e.low),
            "high": frames.percent(e.high),
            "p": round(p, 4),
            "significant": p < 1 - stats.CONFIDENCE,
        }
        for method, operator, e, p in zip(
            *(usable[n] for n in ("method", "operator", "estimate")), adjusted, strict=True
        )
    ]
    unable = [line for line in lines.inapplicable if (line.kind, line.backbone) == ("addition", backbone)]
    return {
        "regulariser": regularizer,
        "backbone": backbone,
        "methods": list(dict.fromkeys(c["method"] for c in cells)),
        "operators": sorted({c["operator"] for c in cells}),
        "cells": cells,
        "inapplicable": sorted({(str(names.finetuning(x.finetuning).plain), x.variant) for x in unable}),
    }


def curves(rows: pa.Table, lines: Lines) -> list[Found]:
    """Validation accuracy against the scaling coefficient, one entry per operator: {finetuning: [[scaling, %],
    ...]}.
    """
    charts: dict[str, dict[str, list[list[float | None]]]] = defaultdict(dict)
    sweeps = collect.sweeps(rows, lines.addition)
    for line in lines.addition:
        points = sweeps.get(line.name, {})
        if len(points) > 1:
            charts[line.variant][line.finetuning] = [[s, frames.percent(v)] for s, v in points.items()]
    return [{"operator": operator, "curves": charts[operator]} for operator in sorted(charts)]


def geometry(lines: Lines) -> list[Found]:
    """Cosine similarity between task vectors per fine-tuning method, mean over seeds; from cells that measured it."""
    measured = [
        {"backbone": "", "finetuning": "", "norms": None, **cell.identity, **cell.metrics}
        for cell in lines.cells.values()
        if cell.identity.get("suite") == lines.suite
        and set(cell.metrics.get("tasks", ())) == set(lines.tasks)
        and "cosine" in cell.metrics
    ]
    table = pd.DataFrame(measured, columns=["backbone", "finetuning", "tasks", "cosine", "norms"])
    return [_geometry(b, f, part) for (b, f), part in frames.groups(table, "backbone", "finetuning").items()]


def _geometry(backbone: str, finetuning: str, measured: pd.DataFrame) -> Found:
    tasks = measured["tasks"].iloc[0]
    same = measured[measured["tasks"].map(lambda of_cell: of_cell == tasks)]
    cosine = np.mean(same["cosine"].tolist(), axis=0)
    norms = np.mean(same["norms"].tolist(), axis=0) if same["norms"].notna().all() else np.array([])
    off = cosine[~np.eye(len(cosine), dtype=bool)]
    return {
        "finetuning": finetuning,
        "backbone": backbone,
        "tasks": list(tasks),
        "cosine": frames.rounded(cosine, 3),
        "mean": round(float(np.abs(off).mean()), 3) if off.size else None,
        "norms": frames.rounded(norms, 3),
    }


def strengths(rows: pa.Table, lines: Lines) -> list[Found]:
    """`bench.tables.strength` of one suite, accuracies in percent."""
    entries = sensitivity(rows.filter(pc.equal(rows["suite"], lines.suite)), lines.cells)
    for entry in entries:
        for point in entry["curve"]:
            point |= {split: frames.percent(point[split]) for split in ("validation", "test")}
    return entries
