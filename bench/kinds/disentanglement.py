"""Weight-disentanglement error of two task vectors on a square of coefficients: `bench.work.disentanglement`."""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

from bench.errors import BenchError
from bench.kinds.base import OfExperts, Read, Task, sampled, shared
from bench.kinds.protocol import Kind, Setting, Warm, Work
from bench.kinds.rows import Measured
from bench.registry.catalogue import Catalogue

SQUARE = tuple(0.25 * i for i in range(-4, 5))
"""Both axes; [0, 1] of it is what task arithmetic searches."""

PAIRS, IMAGES = 4, 100
"""Pairs of tasks, and validation images of each."""

POSTHOC = "posthoc-linear"


@dataclass(frozen=True, kw_only=True)
class Disentanglement(OfExperts):
    """Weight-disentanglement error of two task vectors on a square of coefficients."""

    kind: ClassVar[str] = "disentangle"

    tasks: tuple[Task, ...]
    """The two tasks."""
    mode: str
    """Empty: models are evaluated as they were trained; `posthoc-linear`: ordinary experts as tangent models."""
    coefficients: tuple[float, ...]
    images: int
    """The first so many validation images of each task."""
    version: int = 1

    @property
    def linearised(self) -> bool:
        return self.mode == POSTHOC

    @property
    def reads(self) -> tuple[Read, ...]:
        return tuple((task, "validation") for task, _ in self.tasks)

    @property
    def label(self) -> str:
        mode = f" {self.mode}" if self.mode else ""
        return f"{self.finetuning}{mode} disentanglement {' x '.join(t for t, _ in self.tasks)} seed {self.seed}"


def plan(setting: Setting) -> list[Disentanglement]:
    """Some pairs of tasks, each as it was trained; and as tangent models, where it was not trained so."""
    pairs = sampled(list(combinations(setting.experts, 2)), PAIRS, lambda pair: [e.task for e in pair])
    modes = ("",) if setting.tangent else ("", POSTHOC)
    return [
        Disentanglement(**shared(pair), mode=mode, coefficients=SQUARE, images=IMAGES)
        for pair in pairs
        for mode in modes
    ]


def run(cell: Disentanglement, session: Warm) -> Measured:
    """No rows. Metrics, axes named by `tasks` and `coefficients`: `disagreements` [2, n, n] integers (task, place of
    a_1, place of a_2), `totals` [2], and `error` [n, n] = xi."""
    from bench.pixels.images import Images
    from bench.work.disentanglement import disagreements, error, predictions

    if 0.0 not in cell.coefficients:
        raise BenchError("disentanglement needs coefficient 0, where a task vector stands alone; add it to the grid")
    evaluator, zero = session.evaluator(cell), cell.coefficients.index(0.0)
    tangent = cell.linearised or session.tangent(cell.finetuning)
    vectors = [session.vectors(key)[0] for key in cell.experts]
    counts, totals = [], []
    for t, (images, head) in enumerate(session.image_sets(cell, cell.tasks, "validation")):
        some = Images(images.pixels[: cell.images], images.labels[: cell.images])
        classes = predictions(evaluator, vectors, cell.coefficients, some, head, tangent=tangent)
        counts.append(disagreements(classes, zero, t))
        totals.append(len(some))
    return [], {
        "tasks": [task for task, _ in cell.tasks],
        "coefficients": list(cell.coefficients),
        "disagreements": [count.tolist() for count in counts],
        "totals": totals,
        "error": error(counts, totals),
    }


def cost(cell: Disentanglement, catalogue: Catalogue) -> Work:
    """Two tasks: every point of the square is a model, or two directional derivatives serve them all."""
    if cell.linearised or catalogue.tangent(cell.finetuning):
        return Work(differentiated=2 * 2 * cell.images)
    return Work(evaluated=2 * cell.images * len(cell.coefficients) ** 2)


KINDS = (Kind("disentangle", Disentanglement, plan, run, cost),)
