"""What a kind is, what it is planned from, what it may ask of the session that runs it, and what a driver hears."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from bench.cards import datasets
from bench.cards.datasets import Split
from bench.kinds.base import Cell, Expert, Read, Task
from bench.kinds.rows import Measured
from bench.registry.catalogue import Catalogue

if TYPE_CHECKING:
    from torch import Tensor

    from bench.cards.suites import BackboneCard, Suite
    from bench.pixels.images import Images
    from bench.registry.live import Registry
    from bench.store.store import Store
    from bench.work.evaluate import Evaluator
    from bench.work.merge import Vectors
    from bench.work.resume import FileCheckpoint

C = TypeVar("C", bound=Cell)


@dataclass(frozen=True)
class Setting:
    """What cells are planned from: a suite, one of its backbones, what a grid says, and one set of experts."""

    suite: "Suite"
    backbone: "BackboneCard"
    catalogue: Catalogue
    tasks: Sequence[str]
    recipe: Mapping[str, Any]
    """Numbers that replace those of the suite's recipes."""
    merges: Sequence[str]
    """Operators and compositions."""
    sweep: str
    """Which coefficients validation looks at: `bench.work.coefficients`."""
    subsets: int
    """Sets of tasks of each size."""
    imported: Sequence[Expert]
    """What the store has of published experts."""
    finetuning: str = ""
    seed: int = 0
    experts: Sequence[Expert] = ()
    """Of `finetuning` and `seed`, one for each task; empty while these themselves are planned."""

    @property
    def where(self) -> dict[str, Any]:
        """The fields that every cell has."""
        name, fingerprint = self.backbone.name, self.backbone.fingerprint
        return {"suite": self.suite.name, "backbone": name, "backbone_fingerprint": fingerprint}

    @property
    def tangent(self) -> bool:
        """Whether the experts are tangent models."""
        return self.catalogue.tangent(self.finetuning)


@dataclass(frozen=True)
class Work:
    """What a cell does, counted in images; `bench.planning.costs` knows the seconds of each."""

    evaluated: int = 0
    """Images through a model."""
    differentiated: int = 0
    """Images through a model and its directional derivative, as tangent models are evaluated."""
    steps: int = 0
    """Of training, with `batch` images each."""
    batch: int = 0


def images_in(reads: Iterable[Read]) -> int:
    """How many images the cards of these tasks say that these splits have."""
    splits = ((datasets.load(task).splits, split) for task, split in reads)
    return sum(of_task[split].rows for of_task, split in splits if split in of_task)


def looking(cell: Cell, catalogue: Catalogue) -> Work | None:
    """Looks at validation and one at the test; None for what is not counted in images.

    A tangent model is affine in the coefficient: one pass over validation serves all. An operator's own arithmetic is
    not counted, so merges are a lower bound.
    """
    tangent = cell.linearised or catalogue.tangent(cell.trained)
    passes = {"train": 0, "validation": min(1, cell.looks) if tangent else cell.looks, "test": 1}
    images = sum(passes[split] * images_in([(task, split)]) for task, split in cell.reads)
    if not cell.reads:
        return None
    return Work(differentiated=images) if tangent else Work(evaluated=images)


class Warm(Protocol):
    """What a kind may ask for, kept warm between cells; `bench.kinds.session.Session` is the real one."""

    store: "Store"
    registry: "Registry"
    vectors: "Vectors"
    prune: bool
    """Whether a sweep may leave out coefficients that cannot win."""

    def evaluator(self, cell: Cell) -> "Evaluator":
        """The backbone of a cell, ready to evaluate weights."""

    def image_sets(self, cell: Cell, tasks: Iterable[Task], split: Split) -> "list[tuple[Images, Tensor]]":
        """Images and zero-shot head of one split of each task."""

    def checkpoint(self, cell: Cell) -> "FileCheckpoint | None":
        """Where the fine-tune of `cell` keeps its state until its record is stored; None when none is wanted."""

    def tangent(self, finetuning: str) -> bool:
        """Whether models of this fine-tuning method are evaluated as tangent models."""

    def expert_accuracy(self, experts: Sequence[str], split: Split) -> dict[str, float]:
        """Accuracy of each task's own expert, from the store."""


@dataclass(frozen=True)
class Kind(Generic[C]):
    """A class of cells: which there are, what they do, and what that costs. One of each in `bench.kinds.KINDS`."""

    name: str
    """The cells' `kind`; or, where an experiment has no kind of its own (`subsets`), what a grid calls it."""
    cell: type[C]
    plan: Callable[[Setting], Sequence[Cell]]
    """The cells, and those that they need besides the setting's experts before them; pure."""
    run: Callable[[C, Warm], Measured]
    cost: Callable[[C, Catalogue], Work | None] = looking


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt at a cell, as a session says."""

    key: str
    status: str
    """done; failed; refused: the store cannot be written, which is no fault of the cell and ends the run."""
    seconds: float
    error: str = ""
    headline: Mapping[str, Any] = field(default_factory=dict)
    """Of a row, for the live display: its name and accuracy."""
