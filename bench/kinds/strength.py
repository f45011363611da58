"""Accuracy against the strength (lambda in the paper) of a regulariser: experts at other strengths, and their merges.

Rows carry the strength in `options` and have kinds of their own, so that no board mistakes a point of a search for a
method. `bench.tables.strength` chooses among them and counts what the search cost.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bench.errors import BenchError
from bench.ground.toml_json import canonical
from bench.kinds import addition, expert
from bench.kinds.addition import Addition
from bench.kinds.base import Cell, field_values
from bench.kinds.expert import Finetune
from bench.kinds.protocol import Kind, Setting, Warm
from bench.kinds.rows import Measured, Rows

STRENGTHS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Declared grid; the OrthoReg paper searches 0.1 to 100. The suite's own joins it where it is another."""


@dataclass(frozen=True)
class StrengthExpert(Finetune):
    """An expert whose regulariser has not the suite's strength. Never an expert of a board."""

    kind: ClassVar[str] = "variant"

    @property
    def label(self) -> str:
        return f"{super().label} strength {self.recipe.strength:g}"


@dataclass(frozen=True, kw_only=True)
class Strength(Addition):
    """Task addition of experts with one strength of their regulariser: one point of a curve."""

    kind: ClassVar[str] = "strength"
    ranked: ClassVar[bool] = False

    strength: float

    @property
    def label(self) -> str:
        return f"{super().label} strength {self.strength:g}"


def plan(setting: Setting) -> list[Cell]:
    """At every strength the experts and their merges."""
    trained = [e for e in setting.experts if isinstance(e, Finetune)]
    if not trained:
        raise BenchError(f"{setting.finetuning}: strengths need experts that are trained here; leave out :FAMILY")
    cells: list[Cell] = []
    for strength, experts in by_strength(trained):
        merges = addition.plan(replace(setting, experts=experts))
        cells += [*experts, *(Strength(**field_values(merge), strength=strength) for merge in merges)]
    return cells


def by_strength(experts: Sequence[Finetune]) -> list[tuple[float, list[Finetune]]]:
    """Experts at every strength of the declared grid; at the suite's own strength the experts themselves."""
    if not experts[0].regularizer:
        name = experts[0].finetuning
        raise BenchError(f"strengths are those of a regulariser, {name} has none; ask for {name}+orthoreg")
    grid = sorted({*STRENGTHS, *(e.recipe.strength for e in experts)})
    return [(strength, [_at(e, strength) for e in experts]) for strength in grid]


def _at(own: Finetune, strength: float) -> Finetune:
    if own.recipe.strength == strength:
        return own
    return StrengthExpert(**field_values(own) | {"recipe": replace(own.recipe, strength=strength)})


def run(cell: Strength, session: Warm) -> Measured:
    """Task addition at one strength."""
    rows, facts = addition.run(cell, session)
    return named(rows, cell.strength), facts


def run_expert(cell: StrengthExpert, session: Warm) -> Measured:
    """One expert at a strength that is not the suite's."""
    rows, facts = expert.run(cell, session)
    return named(rows, cell.recipe.strength), facts


def named(rows: Rows, strength: float) -> Rows:
    """The rows with the strength among their options."""
    return [r | {"options": canonical({**json.loads(r["options"]), "strength": strength})} for r in rows]


KINDS = (Kind("variant", StrengthExpert, plan, run_expert, expert.cost), Kind("strength", Strength, plan, run))
