"""Weight-disentanglement error of every method from stored cells: mean over pairs of tasks and seeds, ready to draw.

`bench.work.disentanglement` measures it and states the formula. The square that task arithmetic searches is
[0, 1] x [0, 1]; the mean error inside it is one number by which methods can be ordered.
"""

import json
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.errors import BenchError

SEARCHED = (0.0, 1.0)


def disentanglement(cells: pa.Table) -> list[dict[str, Any]]:
    """One entry for every suite, backbone, fine-tuning method and mode, by name; JSON values.

    `error` [n, n] is xi by place of a_1 and a_2 in `coefficients`, mean over `cells` measured ones (pairs x seeds);
    `pairs` names the pairs; `searched` is the square to draw and `searched_error` the mean of xi inside it.
    """
    found: dict[tuple[str, str, str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for line in cells.filter(pc.equal(cells["kind"], "disentangle")).to_pylist():
        identity, metrics = json.loads(line["identity"]), json.loads(line["metrics"])
        name = (identity["suite"], identity["backbone"], identity["finetuning"], identity["mode"])
        found[name].append((identity, metrics))
    return [_entry(name, found[name]) for name in sorted(found)]


def _entry(name: tuple[str, str, str, str], measured: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    suite, backbone, finetuning, mode = name
    grids = {tuple(metrics["coefficients"]) for _, metrics in measured}
    if len(grids) > 1:
        raise BenchError(f"disentanglement of {finetuning} was measured on {len(grids)} grids; keep the cells of one")
    (coefficients,) = grids
    places = range(len(coefficients))
    error = [[sum(m["error"][i][j] for _, m in measured) / len(measured) for j in places] for i in places]
    inside = [i for i in places if SEARCHED[0] <= coefficients[i] <= SEARCHED[1]]
    searched = [error[i][j] for i in inside for j in inside]
    return {
        "suite": suite,
        "backbone": backbone,
        "finetuning": finetuning,
        "mode": mode,
        "coefficients": list(coefficients),
        "error": [[round(x, 4) for x in line] for line in error],
        "pairs": sorted({" x ".join(m["tasks"]) for _, m in measured}),
        "seeds": sorted({identity["seed"] for identity, _ in measured}),
        "cells": len(measured),
        "searched": list(SEARCHED),
        "searched_error": round(sum(searched) / len(searched), 4),
    }
