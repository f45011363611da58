"""Accuracy against the number of merged tasks: one curve for every row, means over the same subsets of tasks.

A merge of some tasks belongs to the row whose experts it merges in the same way. All rows of one operator are compared
on the same subsets, and every size has as many as the fullest one where the tasks allow: a point that lacks some is
shown as `3/6` without a mean, like a row that lacks a task.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.ground.metrics import COMMON_REFERENCE, accuracy, mean_accuracy, normalised_accuracy
from bench.store.records import unpack_bits
from bench.tables import collect, stats
from bench.tables.collect import Lines
from bench.tables.line import Line

Point = dict[str, Any]
_COLUMNS = ("key", "finetuning", "operator", "tasks", "seed", "task", "correct", "total", "bits")


@dataclass
class _Merge:
    """One merged model on the test images of its own tasks."""

    key: str
    finetuning: str
    operator: str
    tasks: tuple[str, ...]
    seed: int
    rates: dict[str, float] = field(default_factory=dict)
    bits: dict[str, tuple[bytes, int]] = field(default_factory=dict)


def subsets(rows: pa.Table, lines: Lines) -> list[dict[str, Any]]:
    """One entry for every row that was measured on two sizes or more: {name, finetuning, operator, seeds, points}.

    Every point is {tasks, measured, wanted, accuracy, low, high, normalised, normalised_common}: how many tasks are
    merged, how many of the wanted subsets are measured, and means over subsets and `seeds`, in percent.
    The interval is over test images, for these very models; it needs the correctness bits.
    """
    curves: dict[tuple[str, str], list[_Merge]] = defaultdict(list)
    for merge in _merges(rows, lines):
        home = _home(lines, merge)
        name = home.name if home else f"{merge.finetuning}/{merge.operator}"
        curves[name, home.recipe if home else _recipes(lines, merge)].append(merge)
    paired = {row: _paired(found) for row, found in curves.items()}
    chosen = {row: found for row, found in paired.items() if len({len(m.tasks) for m in found}) > 1}
    wanted: dict[tuple[str, int], set[tuple[str, ...]]] = defaultdict(set)
    for (name, _), found in chosen.items():
        for merge in found:
            wanted[_operator(name), len(merge.tasks)].add(merge.tasks)
    names, most = [name for name, _ in chosen], defaultdict[str, int](int)
    for (operator, _), some in wanted.items():
        most[operator] = max(most[operator], len(some))
    return [
        {
            "name": name if names.count(name) == 1 else f"{name}[{way[:4]}]",
            "finetuning": name.partition("/")[0],
            "operator": _operator(name),
            "seeds": sorted({m.seed for m in found}),
            "points": [
                _point(
                    lines,
                    [m for m in found if len(m.tasks) == size],
                    wanted[_operator(name), size],
                    most[_operator(name)],
                )
                for size in sorted({len(m.tasks) for m in found})
            ],
        }
        for (name, way), found in sorted(chosen.items(), key=lambda item: item[0])
    ]


def drawn(entry: Mapping[str, Any], value: str) -> list[Point]:
    """The points of one curve with `value` as `y`, every size from the first to the last; `y` is None where there is no
    mean, so that no line is drawn across what was not measured.
    """
    at = {point["tasks"]: point for point in entry["points"]}
    return [{**at.get(n, {}), "x": n, "y": at.get(n, {}).get(value)} for n in range(min(at), max(at) + 1)]


def _merges(rows: pa.Table, lines: Lines) -> list[_Merge]:
    """Every merged model with a test result on each of its tasks and on each of its experts."""
    wanted = pc.and_(pc.equal(rows["kind"], "addition"), pc.equal(rows["split"], "test"))
    rows = rows.filter(pc.and_(pc.and_(wanted, rows["selected"]), pc.equal(rows["suite"], lines.suite)))
    found: dict[tuple[str, str, int], _Merge] = {}
    for key, finetuning, operator, tasks, seed, task, correct, total, bits in zip(
        *(rows[name].to_pylist() for name in _COLUMNS), strict=True
    ):
        named = tuple(tasks.split("+"))
        merge = found.setdefault((key, tasks, seed), _Merge(key, finetuning, operator, named, seed))
        merge.rates[task], merge.bits[task] = accuracy(correct, total), (bits, total)
    return [m for m in found.values() if set(m.rates) == set(m.tasks) <= set(_experts(lines, m))]


def _experts(lines: Lines, merge: _Merge) -> dict[str, float]:
    """{task: test accuracy} of the experts that a merge was made from."""
    return dict(lines.by_key[key] for key in lines.upstream(merge.key) if key in lines.by_key)


def _home(lines: Lines, merge: _Merge) -> Line | None:
    """The row of all tasks that merges the same experts in the same way."""
    experts, way = set(lines.upstream(merge.key)), _way(lines, merge.key)
    for line in lines.addition:
        if (line.finetuning, line.operator) == (merge.finetuning, merge.operator):
            for key in line.keys.get(merge.seed, ()):
                if experts <= set(lines.upstream(key)) and _way(lines, key) == way:
                    return line
    return None


def _way(lines: Lines, key: str) -> str:
    """Everything about a merge but its tasks and its seed."""
    identity = lines.cells.get(key, {}).get("identity", {})
    return json.dumps({k: v for k, v in identity.items() if k not in ("tasks", "experts", "seed")}, sort_keys=True)


def _recipes(lines: Lines, merge: _Merge) -> str:
    """What tells merges apart that no row of all tasks gathers: their way and how their experts were made."""
    leave = ("task", "card", "seed")
    found = (lines.cells.get(key, {}).get("identity", {}) for key in lines.upstream(merge.key))
    made = {json.dumps({k: v for k, v in expert.items() if k not in leave}, sort_keys=True) for expert in found}
    return hashlib.sha256("\n".join([_way(lines, merge.key), *sorted(made)]).encode()).hexdigest()


def _paired(merges: Sequence[_Merge]) -> list[_Merge]:
    """The merges of the seeds that have most of them; other seeds would weigh the sizes differently."""
    count = {m.seed: sum(other.seed == m.seed for other in merges) for m in merges}
    return [m for m in merges if count[m.seed] == max(count.values())]


def _operator(name: str) -> str:
    return name.partition("/")[2]


def _point(lines: Lines, merges: Sequence[_Merge], wanted: set[tuple[str, ...]], most: int) -> Point:
    """One size of one curve; `wanted` are the subsets of this size that any row has, `most` the most of any size."""
    by_seed = [{m.tasks for m in merges if m.seed == seed} for seed in {m.seed for m in merges}]
    measured, size = len(set.intersection(*by_seed)), len(merges[0].tasks)
    needed = max(len(wanted), min(most, math.comb(len(lines.tasks), size)))
    values: dict[str, float | None] = dict.fromkeys(("accuracy", "low", "high", "normalised", "normalised_common"))
    if measured == needed:
        values["accuracy"] = float(np.mean([mean_accuracy(m.rates) for m in merges]))
        values["low"], values["high"] = _interval(merges) or (None, None)
        values["normalised"] = _normalised(merges, [_experts(lines, m) for m in merges])
        values["normalised_common"] = _normalised(merges, [_common(lines, m) for m in merges])
    shown = {name: collect.percent(value) for name, value in values.items()}
    return {"tasks": size, "measured": measured, "wanted": needed, **shown}


def _normalised(merges: Sequence[_Merge], references: Sequence[Mapping[str, float]]) -> float | None:
    """Mean of normalised accuracies; None where a reference is missing or 0."""
    if any(reference.get(task, 0.0) <= 0 for m, reference in zip(merges, references, strict=True) for task in m.tasks):
        return None
    return float(np.mean([normalised_accuracy(m.rates, r) for m, r in zip(merges, references, strict=True)]))


def _common(lines: Lines, merge: _Merge) -> dict[str, float]:
    """The experts of the common reference, of the same backbone and seed."""
    if merge.finetuning == COMMON_REFERENCE:
        return _experts(lines, merge)
    backbone = lines.cells[merge.key]["identity"].get("backbone", "")
    return lines.experts_of(COMMON_REFERENCE, backbone, merge.seed)


def _interval(merges: Sequence[_Merge]) -> tuple[float, float] | None:
    """Interval of the mean over merges, in which an image counts with every merge that saw it; None without bits."""
    seen: dict[str, stats.Array] = {}
    for merge in merges:
        for task, (bits, total) in merge.bits.items():
            if not bits:
                return None
            share = unpack_bits(bits, total) / (len(merges) * len(merge.tasks))
            seen[task] = seen[task] + share if task in seen else share
    return stats.mean_interval(list(seen.values()))
