"""Weight-disentanglement error of every method from stored cells: mean over pairs of tasks and seeds, ready to draw.

`bench.work.disentanglement` measures it and states the formula. The square that task arithmetic searches is
[0, 1] x [0, 1]; the mean error inside it is one number by which methods can be ordered.
"""

from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.store.records import Cells
from bench.tables import frames

SEARCHED = (0.0, 1.0)
NAMES = ("suite", "backbone", "finetuning", "mode")


def disentanglement(cells: Cells) -> list[dict[str, Any]]:
    """One entry for every suite, backbone, fine-tuning method and mode, by name; JSON values.

    `error` [n, n] is xi by place of a_1 and a_2 in `coefficients`, mean over `cells` measured ones (pairs x seeds);
    `pairs` names the pairs; `searched` is the square to draw and `searched_error` the mean of xi inside it.
    """
    measured = [{**c.identity, **c.metrics} for c in cells.values() if c.identity.get("kind") == "disentangle"]
    table = pd.DataFrame(measured, columns=[*NAMES, "seed", "tasks", "coefficients", "error"])
    return [
        dict(zip(NAMES, name, strict=True)) | _map(name[2], part) for name, part in frames.groups(table, *NAMES).items()
    ]


def _map(finetuning: str, measured: pd.DataFrame) -> dict[str, Any]:
    grids = set(map(tuple, measured["coefficients"]))
    if len(grids) > 1:
        raise BenchError(f"disentanglement of {finetuning} was measured on {len(grids)} grids; keep the cells of one")
    (coefficients,) = grids
    error = np.mean(measured["error"].tolist(), axis=0)
    inside = [place for place, c in enumerate(coefficients) if SEARCHED[0] <= c <= SEARCHED[1]]
    return {
        "coefficients": list(coefficients),
        "error": frames.rounded(error, 4),
        "pairs": sorted({" x ".join(tasks) for tasks in measured["tasks"]}),
        "seeds": sorted({int(seed) for seed in measured["seed"]}),
        "cells": len(measured),
        "searched": list(SEARCHED),
        "searched_error": round(float(error[np.ix_(inside, inside)].mean()), 4),
    }
