"""Post-hoc linearisation: ordinary experts evaluated as tangent models that they were not trained as.

    f(x; theta_0) + J(x; theta_0) (scaling * merged)

Ortiz-Jimenez et al. (arXiv:2305.12827) use it to see what linearity alone gives. The experts are linearised too, so
normalised accuracy divides by the linearised experts, and so does the choice of the coefficient.
"""

from bench.ground import metrics
from bench.kinds import addition, expert
from bench.kinds.cells import Posthoc
from bench.kinds.protocol import Warm
from bench.kinds.rows import Found, Rows


def run(cell: Posthoc, session: Warm) -> Found:
    """Rows of every linearised expert (operator empty, scaling 1), then those of task addition."""
    rows: Rows = []
    reference: dict[str, float] = {}
    for task, key in zip(cell.tasks, cell.experts, strict=True):
        delta, _ = session.vectors(key)
        own = expert.evaluated(cell, session, task, delta, kind=cell.kind, tangent=True)
        reference |= {r["task"]: metrics.accuracy(r["correct"], r["total"]) for r in own if r["split"] == "validation"}
        rows += own
    merged, found = addition.run(cell, session, tangent=True, reference=reference)
    return rows + merged, found
