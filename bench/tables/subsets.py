"""Accuracy against the number of merged tasks: one curve for every row, means over the same subsets of tasks.

A merge of some tasks belongs to the row whose experts it merges in the same way. All rows of one operator are compared
on the same subsets, and every size has as many as the fullest one where the tasks allow: a point that lacks some is
shown as `3/6` without a mean, like a row that lacks a task.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench.ground import names
from bench.ground.metrics import COMMON_REFERENCE, mean_accuracy, normalised_accuracy
from bench.store.records import unpack_bits
from bench.tables import frames, stats
from bench.tables.collect import Lines

Point = dict[str, Any]
CURVE = ["name", "recipe"]
"""What the merges of one curve have in common."""


def subsets(rows: pa.Table, lines: Lines) -> list[dict[str, Any]]:
    """One entry for every row that was measured on two sizes or more: {name, finetuning, operator, seeds, points}.

    Every point is {tasks, measured, wanted, accuracy, low, high, normalised, normalised_common}: how many tasks are
    merged, how many of the wanted subsets are measured, and means over subsets and `seeds`, in percent.
    The interval is over test images, for these very models; it needs the correctness bits.
    """
    wanted = pc.and_(pc.equal(rows["kind"], "addition"), pc.equal(rows["split"], "test"))
    rows = rows.filter(pc.and_(pc.and_(wanted, rows["selected"]), pc.equal(rows["suite"], lines.suite)))
    if pc.count_distinct(rows["tasks"]).as_py() < 2:
        return []
    merges = _merges(frames.of_rows(rows, bits=True), lines)
    # other seeds than those that have most merges of a curve would weigh the sizes differently
    of_seed = merges.groupby([*CURVE, "seed"])["key"].transform("size")
    merges = merges[of_seed == of_seed.groupby([merges[name] for name in CURVE]).transform("max")]
    merges = merges[merges.groupby(CURVE)["size"].transform("nunique") > 1]
    counts = merges.groupby(["variant", "size"])["tasks"].nunique()
    recipes = merges.groupby("name")["recipe"].nunique()
    entries = []
    for (name, recipe), curve in frames.groups(merges, *CURVE).items():
        of_operator: Any = counts.loc[str(names.row(name).merging)]
        points = []
        for size, part in frames.groups(curve, "size").items():
            possible = math.comb(len(lines.tasks), size)
            points.append(_point(lines, part, max(of_operator[size], min(of_operator.max(), possible))))
        entries.append(
            {
                "name": name if recipes[name] == 1 else f"{name}[{recipe[:4]}]",
                "finetuning": str(names.row(name).finetuning),
                "operator": str(names.row(name).merging),
                "seeds": sorted(map(int, curve["seed"].unique())),
                "points": points,
            }
        )
    return entries


def drawn(entry: Mapping[str, Any], value: str) -> list[Point]:
    """The points of one curve with `value` as `y`, every size from the first to the last; `y` is None where there is no
    mean, so that no line is drawn across what was not measured.
    """
    at = {point["tasks"]: point for point in entry["points"]}
    return [{**at.get(n, {}), "x": n, "y": at.get(n, {}).get(value)} for n in range(min(at), max(at) + 1)]


def _merges(frame: pd.DataFrame, lines: Lines) -> pd.DataFrame:
    """Every merged model with a test result on each of its tasks and on each of its experts.

    Columns: key, finetuning, operator, tasks, seed; rows, its stored ones; size, how many tasks; name and recipe of its
    curve, and what the name says of the operator.
    """
    merges = [
        {**part.iloc[0][["key", "finetuning", "operator", "tasks", "seed"]], "rows": part}
        for part in frames.groups(frame, "key").values()
    ]
    homes: dict[tuple[str, str, str, int], list[tuple[set[str], tuple[str, str]]]] = defaultdict(list)
    for line in lines.addition:
        for seed, keys in line.keys.items():
            for key in keys:
                where = (line.finetuning, line.operator, _way(lines, key), seed)
                homes[where].append((set(lines.cells[key].needs), (line.name, line.recipe)))
    whole = []
    for merge in merges:
        key, tasks = merge["key"], names.split_tasks(merge["tasks"])
        if set(merge["rows"]["task"]) == set(tasks) <= set(lines.made_from(key)):
            experts, way = set(lines.cells[key].needs), _way(lines, key)
            near = homes[merge["finetuning"], merge["operator"], way, merge["seed"]]
            alone = (f"{merge['finetuning']}/{merge['operator']}", _recipes(lines, key))
            name, recipe = next((home for of_home, home in near if experts <= of_home), alone)
            variant = str(names.row(name).merging)
            whole.append({**merge, "size": len(tasks), "name": name, "recipe": recipe, "variant": variant})
    return pd.DataFrame(whole, columns=["key", "tasks", "seed", "rows", "size", *CURVE, "variant"])


def _way(lines: Lines, key: str) -> str:
    """Everything about a merge but its tasks and its seed."""
    return frames.without(lines.cells[key].identity, "tasks", "experts", "seed")


def _recipes(lines: Lines, key: str) -> str:
    """What tells merges apart that no row of all tasks gathers: their way and how their experts were made."""
    made = {frames.without(lines.cells[need].identity, "task", "card", "seed") for need in lines.cells[key].needs}
    return frames.tag([_way(lines, key), *made])


def _point(lines: Lines, merges: pd.DataFrame, wanted: int) -> Point:
    """One size of one curve, of which `wanted` subsets are wanted."""
    seeds = merges.groupby("tasks")["seed"].nunique()
    measured = int((seeds == merges["seed"].nunique()).sum())
    values: dict[str, float | None] = dict.fromkeys(("accuracy", "low", "high", "normalised", "normalised_common"))
    if measured == wanted:
        rates = [dict(zip(rows["task"], rows["accuracy"], strict=True)) for rows in merges["rows"]]
        values["accuracy"] = float(np.mean([mean_accuracy(of_merge) for of_merge in rates]))
        values["low"], values["high"] = _interval(merges["rows"].tolist()) or (None, None)
        values["normalised"] = _normalised(rates, [lines.made_from(key) for key in merges["key"]])
        values["normalised_common"] = _normalised(rates, [_common(lines, rows.iloc[0]) for rows in merges["rows"]])
    percents = {name: frames.percent(value) for name, value in values.items()}
    return {"tasks": int(merges["size"].iloc[0]), "measured": measured, "wanted": int(wanted), **percents}


def _normalised(merges: Sequence[Mapping[str, float]], references: Sequence[Mapping[str, float]]) -> float | None:
    """Mean of normalised accuracies; None where a reference is missing or 0."""
    pairs = list(zip(merges, references, strict=True))
    if any(reference.get(task, 0.0) <= 0 for rates, reference in pairs for task in rates):
        return None
    return float(np.mean([normalised_accuracy(rates, reference) for rates, reference in pairs]))


def _common(lines: Lines, row: pd.Series) -> dict[str, float]:
    """The experts of the common reference, of the same backbone and seed."""
    if row["finetuning"] == COMMON_REFERENCE:
        return lines.made_from(row["key"])
    return lines.experts_of(COMMON_REFERENCE, row["backbone"], row["seed"])


def _interval(merges: Sequence[pd.DataFrame]) -> tuple[float, float] | None:
    """Interval of the mean over merges, in which an image counts with every merge that saw it; None without bits."""
    shares: dict[str, stats.Array] = {}
    for rows in merges:
        for task, bits, total in rows[["task", "bits", "total"]].itertuples(index=False):
            if not bits:
                return None
            shares[task] = shares.get(task, 0) + unpack_bits(bits, total) / (len(merges) * len(rows))
    return stats.mean_interval(list(shares.values()))
