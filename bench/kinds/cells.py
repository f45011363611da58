"""Cells: pieces of work as frozen values, and keys: hashes of what they compute.

Every field of a cell is part of its identity; how and where it runs (paths, device, workers, batch size of
evaluation) is `bench.work.runtime.How` and never reaches a key. A key contains the keys of the cells it needs, so
it names its whole lineage. Seeds are functions of purpose, task and index, never of the method, so every comparison is
paired.
"""

import hashlib
import json
import re
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

from bench.cards.recipes import Recipe
from bench.errors import BenchError
from bench.ground.toml_json import canonical
from bench.work.coefficients import WHOLE

KEY_VERSION = 1
PUBLISHED = ":"
"""Between a fine-tuning method and the family of checkpoints that it comes from."""

KEY = re.compile(r"[0-9a-f]{4,20}")
"""What may stand for a key on the command line: its first four digits or more."""

RECIPE_DEFAULTS: dict[str, Any] = json.loads(
    json.dumps({f.name: f.default for f in fields(Recipe) if f.default is not MISSING})
)


@dataclass(frozen=True)
class Cell:
    """Base of all cells. `kind` names the class in keys and records."""

    kind: ClassVar[str]
    runs_model: ClassVar[bool] = True
    """Whether a model is run, which is what a GPU is for. No field, and so no part of a key."""

    suite: str
    backbone: str
    backbone_fingerprint: str

    @property
    def identity(self) -> dict[str, Any]:
        """What is computed, as plain JSON values.

        A recipe appears without the numbers that are at their defaults, so that an option added later, off by
        default, renames no result. The defaults themselves are pinned by a test.
        """
        found = {"kind": self.kind, "key_version": KEY_VERSION, **json.loads(json.dumps(self, default=field_values))}
        if "recipe" in found:
            found["recipe"] = {k: v for k, v in found["recipe"].items() if v != RECIPE_DEFAULTS.get(k)}
        if found.get("sweep") == WHOLE:  # once the only one there was: such cells keep their keys
            del found["sweep"]
        return found

    @cached_property
    def key(self) -> str:
        """sha256 of the canonical JSON of the identity, 20 hex digits."""
        return hashlib.sha256(canonical(self.identity).encode()).hexdigest()[:20]

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the cells whose results this one reads."""
        return ()

    @property
    def label(self) -> str:
        """For people: what the cell does, in a few words."""
        return self.kind


@dataclass(frozen=True)
class ZeroShot(Cell):
    """The pretrained model with its zero-shot heads on every task and on the control."""

    kind: ClassVar[str] = "zeroshot"

    tasks: tuple[tuple[str, str], ...]
    """(dataset, card fingerprint), the control last."""

    @property
    def label(self) -> str:
        return "zero-shot"


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
        return f"{self.method}+{self.regularizer}" if self.regularizer else self.method

    @property
    def label(self) -> str:
        return f"{self.finetuning} {self.task} seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Finetune(Expert):
    """One expert: the backbone fine-tuned on one task."""

    kind: ClassVar[str] = "expert"

    version: int
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class Imported(Expert):
    """A published expert, read from a file by `bench import`: nothing trains, its update is evaluated and merged.

    Its fine-tuning is named `METHOD:FAMILY`, so that no line of a table mixes it with experts that were trained here.
    `seed` says which of several published experts of one method it is.
    """

    kind: ClassVar[str] = "imported"

    family: str
    sha256: str
    """Of the published file."""

    @property
    def finetuning(self) -> str:
        """`nonlinear:fusionbench`, `tta+orthoreg:orthoreg`."""
        return f"{super().finetuning}{PUBLISHED}{self.family}"


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


@dataclass(frozen=True, kw_only=True)
class Addition(OfExperts):
    """Task addition: merge one set of experts with one operator, choose the coefficient, test once."""

    kind: ClassVar[str] = "addition"

    tasks: tuple[tuple[str, str], ...]
    """(dataset, card fingerprint) of the merged tasks, in the suite's order."""
    operator: str
    version: int
    options: str
    """Canonical JSON of the operator's options."""
    coefficients: tuple[float, ...]
    board: str
    sweep: str = WHOLE  # which coefficients validation looks at: `bench.work.coefficients`

    @property
    def label(self) -> str:
        return f"{self.finetuning}/{self.operator} seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Negation(OfExperts):
    """Task negation: subtract one expert's task vector, forget its task as far as the control allows, test once."""

    kind: ClassVar[str] = "negation"

    task: str
    card: str
    control: str
    control_card: str
    coefficients: tuple[float, ...]
    keep: float
    """Share of the zero-shot control accuracy that must be kept on validation."""
    version: int = 1

    @property
    def label(self) -> str:
        return f"{self.finetuning} minus {self.task} seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Geometry(OfExperts):
    """Norms, angles, spectra and overlaps of one set of task vectors. Looks at no image."""

    kind: ClassVar[str] = "geometry"
    runs_model: ClassVar[bool] = False

    tasks: tuple[tuple[str, str], ...]
    version: int = 1

    @property
    def label(self) -> str:
        return f"{self.finetuning} geometry seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Disentangle(OfExperts):
    """Weight-disentanglement error of two task vectors on a square of coefficients."""

    kind: ClassVar[str] = "disentangle"

    tasks: tuple[tuple[str, str], ...]
    """The two tasks."""
    mode: str
    """Empty: models are evaluated as they were trained; `posthoc-linear`: ordinary experts as tangent models."""
    coefficients: tuple[float, ...]
    images: int
    """The first so many validation images of each task."""
    version: int = 1

    @property
    def label(self) -> str:
        mode = f" {self.mode}" if self.mode else ""
        return f"{self.finetuning}{mode} disentanglement {' x '.join(t for t, _ in self.tasks)} seed {self.seed}"


@dataclass(frozen=True)
class Posthoc(Addition):
    """Task addition of ordinary experts that are linearised afterwards: evaluated as tangent models, not trained so."""

    kind: ClassVar[str] = "posthoc"

    @property
    def label(self) -> str:
        return f"{super().label} post-hoc linear"


@dataclass(frozen=True)
class Variant(Finetune):
    """An expert whose recipe is not the suite's, from a search such as that over lambda. Never an expert of a board."""

    kind: ClassVar[str] = "variant"

    @property
    def label(self) -> str:
        return f"{super().label} strength {self.recipe.strength:g}"


@dataclass(frozen=True, kw_only=True)
class Strength(Addition):
    """Task addition of experts with one strength (lambda) of their regulariser: one point of a sensitivity curve."""

    kind: ClassVar[str] = "strength"

    strength: float

    @property
    def label(self) -> str:
        return f"{super().label} strength {self.strength:g}"


KINDS: dict[str, type[Cell]] = {
    c.kind: c
    for c in (ZeroShot, Finetune, Imported, Addition, Negation, Geometry, Disentangle, Posthoc, Variant, Strength)
}


def method_of(finetuning: str) -> str:
    """`att+orthoreg`, `att`, `att:orthoreg` -> `att`."""
    return finetuning.partition(PUBLISHED)[0].partition("+")[0]


def from_identity(identity: Any, key: str = "") -> Cell:
    """The cell that has this identity, and this key if one is given; refuses one written by another key version."""
    found = identity if isinstance(identity, dict) else {}
    kind, version = found.get("kind"), found.get("key_version")
    known = KINDS.get(kind) if isinstance(kind, str) else None
    if known is None or version != KEY_VERSION:
        raise BenchError(f"cell of kind {kind!r}, key version {version!r} is unknown here; use the bench that wrote it")
    try:
        cell = known(**{f.name: _frozen(f.name, found[f.name]) for f in fields(known) if f.name in found})
        damaged = cell.key != key if key else False
    except (KeyError, TypeError, ValueError, AttributeError):
        damaged = True
    if damaged:
        raise BenchError(f"identity of the {kind} cell {key or '(no key)'} is damaged; delete its file and run again")
    return cell


def field_values(value: Any) -> dict[str, Any]:
    """A cell or a recipe as JSON sees it; `dataclasses.asdict` copies every value and takes five times as long."""
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _frozen(name: str, value: Any) -> Any:
    if name == "recipe":
        return Recipe(**{k: _frozen(k, v) for k, v in value.items()})
    return tuple(_frozen(name, v) for v in value) if isinstance(value, list) else value
