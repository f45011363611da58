"""Task negation: subtract one task vector and forget the target, as far as the control task allows.

    theta(c) = pretrained - c * tau        c in the cell's grid, 0 always among them

Validation chooses c: target accuracy lowest among coefficients that keep `keep` of the zero-shot control accuracy
(Ilharco et al., arXiv:2212.04089). Only the chosen coefficient sees the test splits. Tangent methods are evaluated as
tangent models.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from bench.ground import metrics
from bench.kinds.base import OfExperts, Read, measured
from bench.kinds.protocol import Kind, Setting, Warm
from bench.kinds.rows import Measured, row

COEFFICIENTS = tuple(round(0.05 * i, 2) for i in range(21))
"""0 to 1, as in the paper."""

KEEP = 0.95
"""Share of the zero-shot control accuracy that must be kept."""


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
    def reads(self) -> tuple[Read, ...]:
        return measured(self.task, self.control)

    @property
    def looks(self) -> int:
        return len(self.coefficients)

    @property
    def label(self) -> str:
        return f"{self.finetuning} minus {self.task} seed {self.seed}"


def plan(setting: Setting) -> list[Negation]:
    """Task negation of every expert, with the suite's control."""
    suite = setting.suite
    control = suite.card(suite.control).fingerprint
    return [
        Negation(
            **setting.where, task=e.task, card=e.card, control=suite.control, control_card=control, experts=(e.key,),
            finetuning=e.finetuning, coefficients=COEFFICIENTS, keep=KEEP, seed=e.seed,
        )
        for e in setting.experts
    ]  # fmt: skip


def run(cell: Negation, session: Warm) -> Measured:
    """Rows of target and control: the validation sweep, then the test at the chosen coefficient."""
    evaluator, tangent = session.evaluator(cell), session.tangent(cell.finetuning)
    (expert,) = cell.experts
    delta, _ = session.vectors(expert)
    pair = ((cell.task, cell.card), (cell.control, cell.control_card))
    common: dict[str, Any] = {
        "tasks": cell.task,
        "finetuning": cell.finetuning,
        "operator": "negation",
        "board": "validation-tuned",
        "protocol": f"validation:control>={cell.keep:g}",
        "seed": cell.seed,
    }

    sets = session.image_sets(cell, pair, "validation")
    validated = evaluator.sweep(delta, [-c for c in cell.coefficients], sets, tangent=tangent)
    target, control = (
        {c: metrics.accuracy(int(r[i].sum()), len(r[i])) for c, r in zip(cell.coefficients, validated, strict=True)}
        for i in range(2)
    )
    chosen = metrics.best_for_negation(target, control, cell.keep)
    rows = [
        row(cell, right, task=task, split="validation", scaling=c, selected=c == chosen, **common)
        for c, both in zip(cell.coefficients, validated, strict=True)
        for (task, _), right in zip(pair, both, strict=True)
    ]
    (tested,) = evaluator.sweep(delta, (-chosen,), session.image_sets(cell, pair, "test"), tangent=tangent)
    rows += [
        row(cell, right, task=task, split="test", scaling=chosen, **common)
        for (task, _), right in zip(pair, tested, strict=True)
    ]
    return rows, {"scaling": chosen}


KINDS = (Kind("negation", Negation, plan, run),)
