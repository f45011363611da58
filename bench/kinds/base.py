"""Cells: pieces of work as frozen values, and keys: hashes of what they compute.

Every field of a cell is part of its identity; how and where it runs (paths, device, workers, batch size of
evaluation) is `bench.work.runtime.How` and never reaches a key. A key contains the keys of the cells it needs, so
it names its whole lineage. Seeds are functions of purpose, task and index, never of the method, so every comparison is
paired.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Self, TypeVar

from bench.cards.datasets import SPLITS, Split
from bench.ground import names
from bench.ground.toml_json import canonical

KEY_VERSION = 1

KEY = re.compile(r"[0-9a-f]{4,20}")
"""What may stand for a key on the command line: its first four digits or more."""

Task = tuple[str, str]
"""(dataset, card fingerprint)"""
Read = tuple[str, Split]
"""(dataset, split)"""
Sampled = TypeVar("Sampled")


@dataclass(frozen=True)
class Cell:
    """Base of all cells. `kind` names the class in keys and records; what else is no field is no part of a key."""

    kind: ClassVar[str]
    runs_model: ClassVar[bool] = True
    """Whether a model is run, which is what a GPU is for."""
    ranked: ClassVar[bool] = False
    """Whether its rows compete on a board."""

    suite: str
    backbone: str
    backbone_fingerprint: str

    @property
    def identity(self) -> dict[str, Any]:
        """What is computed, as plain JSON values."""
        values = json.loads(json.dumps(self, default=field_values))
        return {"kind": self.kind, "key_version": KEY_VERSION, **values}

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> Self:
        """The inverse of `identity`; raises whatever a damaged one raises."""
        return cls(**{f.name: frozen(identity[f.name]) for f in fields(cls) if f.name in identity})

    @cached_property
    def key(self) -> str:
        """sha256 of the canonical JSON of the identity, 20 hex digits."""
        return hashlib.sha256(canonical(self.identity).encode()).hexdigest()[:20]

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the cells whose results this one reads."""
        return ()

    @property
    def reads(self) -> tuple[Read, ...]:
        """Whose images it looks at."""
        return ()

    @property
    def looks(self) -> int:
        """How often it looks at each validation image, where a pass serves one coefficient only."""
        return 1

    @property
    def trained(self) -> str:
        """The fine-tuning method of the experts that it is or looks at, regulariser and family included; or empty."""
        return ""

    @property
    def merging(self) -> str:
        """The operator that it merges with, modifiers and space included; or empty."""
        return ""

    @property
    def linearised(self) -> bool:
        """Whether models are evaluated as tangent models that they were not trained as."""
        return False

    @property
    def label(self) -> str:
        """For people: what the cell does, in a few words."""
        return self.kind


@dataclass(frozen=True, kw_only=True)
class Expert(Cell):
    """Base of what can be merged: the update of the backbone that one task made."""

    task: str
    card: str
    method: str
    regularizer: str
    seed: int

    @property
    def finetuning(self) -> str:
        """`att+orthoreg`, or `att` without a regulariser."""
        return str(names.Finetuning(self.method, self.regularizer))

    @property
    def trained(self) -> str:
        return self.finetuning

    @property
    def reads(self) -> tuple[Read, ...]:
        return measured(self.task)

    @property
    def label(self) -> str:
        return f"{self.finetuning} {self.task} seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class OfExperts(Cell):
    """Base of the cells that look at the task vectors of some experts of one fine-tuning method and seed."""

    experts: tuple[str, ...]
    """Keys of the experts, one per task."""
    finetuning: str
    seed: int

    @property
    def needs(self) -> tuple[str, ...]:
        return self.experts

    @property
    def trained(self) -> str:
        return self.finetuning


def field_values(value: Any) -> dict[str, Any]:
    """A cell or a recipe as JSON sees it; `dataclasses.asdict` copies every value and takes five times as long."""
    return {f.name: getattr(value, f.name) for f in fields(value)}


def frozen(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def measured(*tasks: str) -> tuple[Read, ...]:
    """The splits of tasks that a model is measured on."""
    return tuple((task, split) for task in tasks for split in SPLITS[1:])


def shared(experts: Sequence[Expert]) -> dict[str, Any]:
    """The fields that every cell on one set of experts has."""
    first = experts[0]
    return {
        "suite": first.suite, "backbone": first.backbone, "backbone_fingerprint": first.backbone_fingerprint,
        "tasks": tuple((e.task, e.card) for e in experts), "experts": tuple(e.key for e in experts),
        "finetuning": first.finetuning, "seed": first.seed,
    }  # fmt: skip


def sampled(items: Sequence[Sampled], at_most: int, name: Callable[[Sampled], Iterable[str]]) -> list[Sampled]:
    """At most so many of `items`, in their order, by the smallest sha256 of their names.

    So a sample is the same for every method and seed, curves are paired, and a larger plan contains the smaller one.
    """
    ranked = sorted(items, key=lambda item: hashlib.sha256("+".join(name(item)).encode()).hexdigest())
    chosen = {id(item) for item in ranked[: max(0, at_most)]}
    return [item for item in items if id(item) in chosen]
