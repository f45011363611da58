"""One line of a leaderboard: one merged model (or one expert per task, or the pretrained model) over its seeds."""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.ground import names
from bench.store.records import Cells, unpack_bits

IDENTITY = ("kind", "suite", "backbone", "finetuning", "operator", "options", "board", "protocol")
"""What rows of one line have in common."""
Rates = npt.NDArray[np.float64]


@dataclass
class Line:
    """A model (or one expert per task) over its seeds, on test images. Made once from rows, then only read."""

    kind: str
    suite: str
    backbone: str
    finetuning: str
    operator: str
    options: str
    board: str
    protocol: str
    recipe: str
    """tag of the lineage: lines with different tags came from different recipes or versions"""
    tasks: tuple[str, ...]
    version: int = 1
    """of the operator; of an expert, see `bench.registry.catalogue.joint_version`"""
    name: str = ""
    reason: str = ""
    """why the operator cannot take these experts; such a line has keys and no seeds"""
    seeds: tuple[int, ...] = ()
    """in order; -1 where nothing is random"""
    rates: Rates = field(default_factory=lambda: np.empty((0, 0)))
    """accuracy [seeds, tasks], of a negation by target; NaN where it was not measured"""
    images: tuple[int, ...] = ()
    """how many test images each task has"""
    scaling: Rates = field(default_factory=lambda: np.empty((0, 0)))
    """[seeds, tasks]"""
    bits: npt.NDArray[np.object_] = field(default_factory=lambda: np.empty((0, 0), object))
    """[seeds, tasks] of bytes"""
    control: pd.DataFrame = field(default_factory=pd.DataFrame)
    """negation and zero-shot: rows of the control task, for negation one for each seed and target"""
    keys: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    @property
    def measured(self) -> int:
        """Tasks that every seed has."""
        return int((~np.isnan(self.rates)).all(axis=0).sum()) if self.seeds else 0

    @property
    def complete(self) -> bool:
        """Whether every seed has every task."""
        return self.measured == len(self.tasks) > 0

    @property
    def variant(self) -> str:
        """What follows the fine-tuning method in the name: the operator and what tells its variants apart."""
        return str(names.row(self.name).merging)

    def accuracies(self, seed: int) -> dict[str, float]:
        """{task: test accuracy} of one seed."""
        if seed not in self.seeds:
            return {}
        of_seed = self.rates[self.seeds.index(seed)]
        return {task: float(rate) for task, rate in zip(self.tasks, of_seed, strict=True) if rate == rate}

    @cached_property
    def accuracy(self) -> float | None:
        """Mean over tasks and seeds, None for an incomplete line."""
        return float(np.mean([fmean(of_seed) for of_seed in self.rates])) if self.complete else None

    def task_accuracy(self, task: str) -> float | None:
        """Mean over seeds on one task, None where a seed lacks it."""
        rates = self.rates[:, self.tasks.index(task)] if self.seeds else np.array([np.nan])
        return None if np.isnan(rates).any() else float(rates.mean())

    def places(self, seeds: Sequence[int]) -> list[int]:
        """Rows of `rates` for these seeds; the pretrained model, which has no seed, pairs with every seed."""
        return [self.seeds.index(seed) if seed in self.seeds else 0 for seed in seeds]

    def outcome(self, seeds: Sequence[int] | None = None) -> list[npt.NDArray[np.int8]] | None:
        """Correctness per task, [seeds, images] in {0, 1}; None where a stored row has no bits."""
        if self._right is None or seeds is None or tuple(seeds) == self.seeds:
            return self._right
        return [task[self.places(seeds)] for task in self._right]

    @cached_property
    def _right(self) -> list[npt.NDArray[np.int8]] | None:
        if not self.complete or not all(self.bits.flat):
            return None
        return [
            np.stack([unpack_bits(bits, images) for bits in of_task]).astype(np.int8)
            for of_task, images in zip(self.bits.T, self.images, strict=True)
        ]


def difference(a: Line, b: Line) -> tuple[list[npt.NDArray[np.int8]], tuple[int, ...]] | None:
    """Paired outcome a - b per task, [seeds, images] in {-1, 0, 1}, on the seeds both have; None where they share
    none.
    """
    random_a, random_b = a.seeds != (-1,), b.seeds != (-1,)
    if random_a and random_b:
        seeds = tuple(sorted(set(a.seeds) & set(b.seeds)))
    else:
        seeds = a.seeds if random_a else b.seeds
    if not seeds or a.tasks != b.tasks:
        return None
    first, second = a.outcome(seeds), b.outcome(seeds)
    if first is None or second is None or any(x.shape != y.shape for x, y in zip(first, second, strict=True)):
        return None
    return [x - y for x, y in zip(first, second, strict=True)], seeds


def inapplicable(cells: Cells, suite: str, tasks: tuple[str, ...]) -> list[Line]:
    """Lines without numbers for the cells whose operator cannot take the experts, each with its reason."""
    lines: dict[tuple[str, ...], Line] = {}
    for key, cell in sorted(cells.items()):
        reason = cell.metrics.get("not_applicable")
        if reason and cell.identity.get("suite") == suite:
            own: dict[str, Any] = {name: str(cell.identity.get(name, "")) for name in IDENTITY}
            short = str(reason).removeprefix(f"{own['operator']} ")
            line = lines.setdefault(tuple(own.values()), Line(recipe="", tasks=tasks, reason=short, **own))
            line.keys[cell.identity.get("seed", -1)].add(key)
    return [lines[own] for own in sorted(lines)]


def name(group: Sequence[Line]) -> None:
    """Name lines of one kind `FINETUNING/OPERATOR`, and what else tells them apart only where names would repeat.

    Of several versions the latest keeps the plain name.
    """
    for line in group:
        references = {"zeroshot": "zero-shot", "expert": f"{line.finetuning}/expert"}
        line.name = references.get(line.kind, "/".join(filter(None, (line.finetuning, line.operator))))
    for attribute in ("options", "backbone", "protocol", "board", "version", "recipe"):
        same = defaultdict(list)
        for line in group:
            same[line.name].append(line)
        for twins in same.values():
            values = {getattr(line, attribute) for line in twins}
            for line in twins if len(values) > 1 else ():
                line.name += _mark(attribute, getattr(line, attribute), values)


def _mark(attribute: str, value: Any, others: Collection[Any]) -> str:
    """What a name says about one attribute; of a recipe the last digits that no other has, four at least."""
    if attribute == "options":
        value = ",".join(f"{k}={v}" for k, v in json.loads(value).items()) or "defaults"
    elif attribute == "version":
        return "" if value == max(others) else f"[v{value}]"
    elif attribute == "recipe":
        value = next((value[-n:] for n in range(4, 64) if len({other[-n:] for other in others}) == len(others)), value)
    return f"[{value}]"
