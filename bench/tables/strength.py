"""Sensitivity to lambda: the curve, the value that validation chooses, and what the search cost.

Points are compared by mean accuracy, not by accuracy normalised with their own experts: the experts change with lambda,
and an own-normalised figure would reward the strengths that ruin them. Each point is taken at the scaling coefficient
that its own validation sweep chose; the test split never takes part. Merges whose experts differ in more than lambda
and seed never share a curve.
"""

import json
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench.errors import BenchError
from bench.ground.metrics import mean_accuracy
from bench.kinds.strength import STRENGTHS
from bench.store.records import Cells
from bench.tables import frames

SPLITS = ("validation", "test")
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


def sensitivity(rows: pa.Table, cells: Cells) -> list[dict[str, Any]]:
    """One entry for every fine-tuning method and operator that has points, by name; JSON values.

    Each has `curve`, a list of {strength, validation, test, measured, wanted} with mean accuracies (None and not chosen
    from where a task or seed is missing), `chosen`, `measured` of `declared` strengths, and the price in seconds from
    provenance: `search_seconds` for all points and their experts, each cell once, `chosen_seconds` for the chosen point
    alone (None where a cell did not record them). `name` is FINETUNING/OPERATOR, with the backbone or a tag of the
    recipe where that would name two curves.
    """
    points = frames.of_rows(rows.filter(pc.and_(pc.equal(rows["kind"], "strength"), rows["selected"])))
    points["strength"] = [json.loads(options)["strength"] for options in points["options"]]
    points["way"] = [_way(cells, key) for key in points["key"]]
    curves = frames.groups(points, *NAMES, "way")
    backbones, names = {name[1] for name in curves}, [name[:-1] for name in curves]
    entries = []
    for *name, way in curves:
        label = f"{name[2]}/{name[3]}" + f"[{name[1]}]" * (len(backbones) > 1)
        label += f"[{way}]" * (names.count(tuple(name)) > 1)
        curve = _curve(curves[*name, way], cells)
        entries.append({"name": label, **dict(zip(NAMES, name, strict=True)), **curve})
    return entries


def _curve(points: pd.DataFrame, cells: Cells) -> dict[str, Any]:
    at = ["strength", "split", "seed", "task"]
    points = points.drop_duplicates(at, keep="last").astype({"split": str, "task": str})
    wide = points.set_index(at)["accuracy"].unstack(["seed", "task"])
    whole = wide[wide.notna().all(axis=1)]  # a line for each strength and split, accuracies by seed and task
    complete = [s for s in wide.index.unique("strength") if all((s, split) in whole.index for split in SPLITS)]
    validation = {s: whole.loc[s, "validation"].to_dict() for s in complete}
    chosen = best_strength(validation) if complete else None
    curve = [
        {
            "strength": strength,
            **{split: fmean(whole.loc[strength, split]) if strength in complete else None for split in SPLITS},
            "measured": int(wide.reindex([(strength, "test")]).notna().to_numpy().sum()),
            "wanted": wide.shape[1],
        }
        for strength in wide.index.unique("strength")
    ]
    return {
        "curve": curve,
        "chosen": chosen,
        "measured": len(complete),
        "declared": len({*STRENGTHS, *points["strength"]}),
        "search_seconds": _price(cells, points["key"]),
        "chosen_seconds": None if chosen is None else _price(cells, points.loc[points["strength"] == chosen, "key"]),
    }


def _price(cells: Cells, keys: Iterable[str]) -> float | None:
    """Seconds of `keys` and of the experts behind them, each cell once; None where one did not record its own."""
    merges = set(keys)
    seconds = cells.seconds(merges | {need for key in merges for need in cells[key].needs})
    return None if seconds is None else round(seconds, 3)


def _way(cells: Cells, key: str) -> str:
    """Four hex digits of everything about a merge and its experts but the strength and the seed."""
    texts = [frames.without(cells[key].identity, "strength", "seed", "experts")]
    for need in cells[key].needs:
        if need in cells:
            recipe = json.loads(frames.without(cells[need].identity.get("recipe") or {}, "strength"))
            texts.append(frames.without({**cells[need].identity, "recipe": recipe}, "kind", "seed"))
    return frames.tag(texts)[:4]
