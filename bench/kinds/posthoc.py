"""Post-hoc linearisation: ordinary experts evaluated as tangent models that they were not trained as.

    f(x; theta_0) + J(x; theta_0) (scaling * merged)

Ortiz-Jimenez et al. (arXiv:2305.12827) use it to see what linearity alone gives. The experts are linearised too, so
normalised accuracy divides by the linearised experts, and so does the choice of the coefficient.
"""

from typing import TYPE_CHECKING, Any

from bench import metrics
from bench.cards import SPLITS
from bench.cells import Posthoc
from bench.kinds import addition
from bench.kinds.rows import Found, row

if TYPE_CHECKING:
    from bench.run import Session


def run(cell: Posthoc, session: "Session") -> Found:
    """Rows of every linearised expert (operator empty, scaling 1), then those of task addition."""
    rows, reference = [], {}
    for task, key in zip(cell.tasks, cell.experts, strict=True):
        delta, _ = session.vectors(key)
        for split in SPLITS[1:]:
            sets = session.image_sets(cell, [task], split)
            ((right,),) = session.evaluator(cell).sweep(delta, (1.0,), sets, tangent=True)
            common: dict[str, Any] = {"task": task[0], "tasks": task[0], "board": "reference", "scaling": 1.0}
            rows.append(row(cell, right, split=split, finetuning=cell.finetuning, seed=cell.seed, **common))
            if split == "validation":
                reference[task[0]] = metrics.accuracy(int(right.sum()), len(right))
    merged, found = addition.run(cell, session, tangent=True, reference=reference)
    return rows + merged, found
