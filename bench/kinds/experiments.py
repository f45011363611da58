"""Further experiments on experts that a grid already has: which cells they are. Pure functions of cells and names.

Samples are taken by the hash of what is sampled: the same for every method and seed, so that curves are paired, and
growing with the number asked for, so that a larger plan contains the smaller one.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeVar

from bench.cards.suites import Suite
from bench.errors import BenchError
from bench.kinds.cells import (
    Addition,
    Disentangle,
    Expert,
    Finetune,
    Geometry,
    Negation,
    Posthoc,
    Strength,
    Variant,
    field_values,
)

SUBTRACTED = tuple(round(0.05 * i, 2) for i in range(21))
"""Coefficients of task negation, 0 to 1 (Ilharco et al., arXiv:2212.04089)."""

KEEP = 0.95
"""Share of the zero-shot control accuracy that negation must keep."""

SQUARE = tuple(0.25 * i for i in range(-4, 5))
"""Both axes of the disentanglement error; [0, 1] of it is what task arithmetic searches."""

PAIRS, IMAGES = 4, 100
"""Pairs of tasks, and validation images of each, for the disentanglement error."""

STRENGTHS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Declared grid of lambda; the OrthoReg paper searches 0.1 to 100. The suite's own joins it where it is another."""

Sampled = TypeVar("Sampled")


def negations(suite: Suite, experts: Sequence[Expert]) -> list[Negation]:
    """Task negation of every expert, with the suite's control."""
    control = suite.card(suite.control).fingerprint
    return [
        Negation(
            **_where(e), task=e.task, card=e.card, control=suite.control, control_card=control, experts=(e.key,),
            finetuning=e.finetuning, coefficients=SUBTRACTED, keep=KEEP, seed=e.seed,
        )
        for e in experts
    ]  # fmt: skip


def geometry(experts: Sequence[Expert]) -> Geometry:
    """The geometry of one set of experts."""
    return Geometry(**shared(experts))


def disentangling(experts: Sequence[Expert], modes: Iterable[str], pairs: int = PAIRS) -> list[Disentangle]:
    """The disentanglement error of some pairs of tasks, in every mode of evaluation."""
    chosen = sampled(list(combinations(experts, 2)), pairs, lambda pair: [e.task for e in pair])
    return [
        Disentangle(**shared(pair), mode=mode, coefficients=SQUARE, images=IMAGES) for pair in chosen for mode in modes
    ]


def subsets(experts: Sequence[Expert], at_most: int) -> list[tuple[Expert, ...]]:
    """Of every size from 2 to all, at most so many sets of experts; all of them where there are no more."""
    return [
        chosen
        for size in range(2, len(experts) + 1)
        for chosen in sampled(list(combinations(experts, size)), at_most, lambda some: [e.task for e in some])
    ]


def posthoc(addition: Addition) -> Posthoc:
    """The same merge, evaluated as a tangent model."""
    return Posthoc(**field_values(addition))


def variants(experts: Sequence[Finetune]) -> list[tuple[float, list[Finetune]]]:
    """Experts at every strength of the declared grid; at the suite's own strength the experts themselves."""
    if not experts[0].regularizer:
        name = experts[0].finetuning
        raise BenchError(f"sensitivity to lambda needs a regulariser, {name} has none; ask for {name}+orthoreg")
    grid = sorted({*STRENGTHS, *(e.recipe.strength for e in experts)})
    return [
        (
            strength,
            [
                e
                if e.recipe.strength == strength
                else Variant(**field_values(e) | {"recipe": replace(e.recipe, strength=strength)})
                for e in experts
            ],
        )
        for strength in grid
    ]


def at_strength(addition: Addition, strength: float) -> Strength:
    """Task addition of experts with this strength, as a point of a sensitivity curve."""
    return Strength(**field_values(addition), strength=strength)


def sampled(items: Sequence[Sampled], at_most: int, name: Any) -> list[Sampled]:
    """At most so many of `items`, in their order, by the smallest sha256 of their names."""
    ranked = sorted(items, key=lambda item: hashlib.sha256("+".join(name(item)).encode()).hexdigest())
    kept = {id(item) for item in ranked[: max(0, at_most)]}
    return [item for item in items if id(item) in kept]


def shared(experts: Sequence[Expert]) -> dict[str, Any]:
    """The fields that every cell on one set of experts has."""
    first = experts[0]
    return _where(first) | {
        "tasks": tuple((e.task, e.card) for e in experts), "experts": tuple(e.key for e in experts),
        "finetuning": first.finetuning, "seed": first.seed,
    }  # fmt: skip


def _where(cell: Expert) -> dict[str, Any]:
    return {"suite": cell.suite, "backbone": cell.backbone, "backbone_fingerprint": cell.backbone_fingerprint}
