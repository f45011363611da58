"""What a kind of cell may ask of the session that runs it, and what a driver hears of an attempt. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from bench.cards.datasets import Split
from bench.kinds.cells import Cell

if TYPE_CHECKING:
    from torch import Tensor

    from bench.pixels.images import Images
    from bench.registry.live import Registry
    from bench.store.store import Store
    from bench.work.evaluate import Evaluator
    from bench.work.merge import Vectors
    from bench.work.resume import FileCheckpoint
    from bench.work.runtime import How


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt at a cell, as a session says."""

    key: str
    status: str
    """done; failed; refused: the store cannot be written, which is no fault of the cell and ends the run."""
    seconds: float
    error: str = ""
    headline: Mapping[str, Any] = field(default_factory=dict)
    """Of a row, for the live display: its name, kind and accuracy."""


class Warm(Protocol):
    """What stays warm between cells; `bench.kinds.session.Session` is the real one."""

    runtime: "How"
    store: "Store"
    registry: "Registry"
    vectors: "Vectors"

    def evaluator(self, cell: Cell) -> "Evaluator":
        """The backbone of a cell, ready to evaluate weights."""

    def images(self, cell: Cell, task: str, fingerprint: str, split: Split) -> "tuple[Images, Tensor]":
        """Images and zero-shot head of one split of one task."""

    def image_sets(self, cell: Cell, tasks: Iterable[tuple[str, str]], split: Split) -> "list[tuple[Images, Tensor]]":
        """`images` of several tasks."""

    def checkpoint(self, cell: Cell) -> "FileCheckpoint | None":
        """Where the fine-tune of `cell` keeps its state until its record is stored; None when none is wanted."""

    def tangent(self, finetuning: str) -> bool:
        """Whether models of this fine-tuning method are evaluated as tangent models."""

    def expert_accuracy(self, experts: Sequence[str], split: Split) -> dict[str, float]:
        """Accuracy of each task's own expert, from the store."""
