"""Post-hoc linearisation: ordinary experts evaluated as tangent models that they were not trained as.

    f(x; theta_0) + J(x; theta_0) (scaling * merged)

Ortiz-Jimenez et al. (arXiv:2305.12827) use it to see what linearity alone gives. The experts are linearised too, so
normalised accuracy divides by the linearised experts, and so does the choice of the coefficient.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from bench.ground import metrics
from bench.kinds import addition, expert
from bench.kinds.addition import Addition
from bench.kinds.base import field_values
from bench.kinds.protocol import Kind, Setting, Warm, Work, images_in, looking
from bench.kinds.rows import Measured, Rows
from bench.registry.catalogue import Catalogue


@dataclass(frozen=True)
class Posthoc(Addition):
    """Task addition of ordinary experts that are linearised afterwards: evaluated as tangent models, not trained so."""

    kind: ClassVar[str] = "posthoc"
    ranked: ClassVar[bool] = False

    @property
    def linearised(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return f"{super().label} post-hoc linear"


def plan(setting: Setting) -> list[Posthoc]:
    """The merges of task addition, evaluated as tangent models; none of experts that are tangent models anyway."""
    return [] if setting.tangent else [Posthoc(**field_values(merge)) for merge in addition.plan(setting)]


def run(cell: Posthoc, session: Warm) -> Measured:
    """Rows of every linearised expert (operator empty, scaling 1), then those of task addition."""
    rows: Rows = []
    reference: dict[str, float] = {}
    for task, key in zip(cell.tasks, cell.experts, strict=True):
        delta, _ = session.vectors(key)
        own = expert.evaluated(cell, session, task, delta, kind=cell.kind, tangent=True)
        reference |= {r["task"]: metrics.accuracy(r["correct"], r["total"]) for r in own if r["split"] == "validation"}
        rows += own
    merged, facts = addition.run(cell, session, reference=reference)
    return rows + merged, facts


def cost(cell: Posthoc, catalogue: Catalogue) -> Work:
    """A merge of tangent models, and every expert on validation and test of its own task."""
    merge = looking(cell, catalogue) or Work()
    return replace(merge, differentiated=merge.differentiated + images_in(cell.reads))


KINDS = (Kind("posthoc", Posthoc, plan, run, cost),)
