"""One line of a leaderboard: one merged model (or one expert per task, or the pretrained model) over its seeds."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.ground.metrics import accuracy, mean_accuracy
from bench.store.records import unpack_bits

IDENTITY = ("kind", "suite", "backbone", "finetuning", "operator", "options", "board", "protocol")
"""What rows of one line have in common."""
Counts = dict[int, dict[str, tuple[int, int]]]
"""{seed: {task: (correct, total)}}"""


@dataclass
class Line:
    """A model (or one expert per task) over its seeds, on test images. Filled once from rows, then only read."""

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
    """why the operator cannot take these experts; such a line has keys and no counts"""
    counts: Counts = field(default_factory=lambda: defaultdict(dict))
    bits: dict[int, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    control: Counts = field(default_factory=lambda: defaultdict(dict))
    """negation and zero-shot: the control task; for negation by target"""
    scaling: dict[int, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    keys: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds in order; -1 where nothing is random."""
        return tuple(sorted(self.counts))

    @cached_property
    def measured(self) -> int:
        """Tasks that every seed has."""
        return sum(all(task in self.counts[seed] for seed in self.seeds) for task in self.tasks) if self.seeds else 0

    @property
    def complete(self) -> bool:
        """Whether every seed has every task."""
        return self.measured == len(self.tasks) > 0

    def accuracies(self, seed: int) -> dict[str, float]:
        """{task: test accuracy} of one seed."""
        return self._rates.get(seed, {})

    @cached_property
    def _rates(self) -> dict[int, dict[str, float]]:
        return {
            seed: {task: accuracy(*by_task[task]) for task in self.tasks if task in by_task}
            for seed, by_task in self.counts.items()
        }

    @cached_property
    def accuracy(self) -> float | None:
        """Mean over tasks and seeds, None for an incomplete line."""
        if not self.complete:
            return None
        return float(np.mean([mean_accuracy(self.accuracies(seed)) for seed in self.seeds]))

    def task_accuracy(self, task: str) -> float | None:
        """Mean over seeds on one task, None where a seed lacks it."""
        found = [self.accuracies(seed).get(task) for seed in self.seeds]
        return None if None in found or not found else float(np.mean(np.array(found, dtype=float)))

    def outcome(self, seeds: Sequence[int] | None = None) -> list[npt.NDArray[np.int8]] | None:
        """Correctness per task, [seeds, images] in {0, 1}; None where a stored row has no bits."""
        if self._right is None or seeds is None or tuple(seeds) == self.seeds:
            return self._right
        # the pretrained model, which has no seed, pairs with every seed
        places = [self.seeds.index(seed) if seed in self.counts else 0 for seed in seeds]
        return [task[places] for task in self._right]

    @cached_property
    def _right(self) -> list[npt.NDArray[np.int8]] | None:
        if not self.complete or not all(self.bits[s].get(task) for s in self.seeds for task in self.tasks):
            return None
        return [
            np.stack([unpack_bits(self.bits[s][task], self.counts[s][task][1]).astype(np.int8) for s in self.seeds])
            for task in self.tasks
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


def inapplicable(cells: Mapping[str, Any], suite: str, tasks: tuple[str, ...]) -> list[Line]:
    """Lines without numbers for the cells whose operator cannot take the experts, each with its reason."""
    found: dict[tuple[str, ...], Line] = {}
    for key, cell in sorted(cells.items()):
        identity, reason = cell["identity"], cell["metrics"].get("not_applicable")
        if reason and identity.get("suite") == suite:
            named: dict[str, Any] = {name: str(identity.get(name, "")) for name in IDENTITY}
            said = str(reason).removeprefix(f"{named['operator']} ")
            line = found.setdefault(tuple(named.values()), Line(recipe="", tasks=tasks, reason=said, **named))
            line.keys[identity.get("seed", -1)].add(key)
    return [found[name] for name in sorted(found)]


def name(group: Sequence[Line]) -> None:
    """Name lines of one kind `FINETUNING/OPERATOR`, and what else tells them apart only where names would repeat.

    Of several versions the latest keeps the plain name.
    """
    for line in group:
        known = {"zeroshot": "zero-shot", "expert": f"{line.finetuning}/expert"}
        line.name = known.get(line.kind, "/".join(filter(None, (line.finetuning, line.operator))))
    for attribute in ("options", "backbone", "protocol", "board", "version", "recipe"):
        same = defaultdict(list)
        for line in group:
            same[line.name].append(line)
        for twins in same.values():
            values = {getattr(line, attribute) for line in twins}
            for line in twins if len(values) > 1 else ():
                line.name += _told(attribute, getattr(line, attribute), values)


def _told(attribute: str, value: Any, others: Collection[Any]) -> str:
    """What a name says about one attribute; of a recipe the last digits that no other has, four at least."""
    if attribute == "options":
        value = ",".join(f"{k}={v}" for k, v in json.loads(value).items()) or "defaults"
    elif attribute == "version":
        return "" if value == max(others) else f"[v{value}]"
    elif attribute == "recipe":
        value = next((value[-n:] for n in range(4, 64) if len({other[-n:] for other in others}) == len(others)), value)
    return f"[{value}]"
