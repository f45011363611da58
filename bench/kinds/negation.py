"""Task negation: subtract one task vector and forget the target, as far as the control task allows.

    theta(c) = pretrained - c * tau        c in the cell's grid, 0 always among them

Validation chooses c: target accuracy lowest among coefficients that keep `keep` of the zero-shot control accuracy
(Ilharco et al., arXiv:2212.04089). Only the chosen coefficient sees the test splits. Tangent methods are evaluated as
tangent models.
"""

from typing import Any

from bench.ground import metrics
from bench.kinds.cells import Negation
from bench.kinds.protocol import Warm
from bench.kinds.rows import Found, row


def run(cell: Negation, session: Warm) -> Found:
    """Rows of target and control: the validation sweep, then the test at the chosen coefficient."""
    evaluator, tangent = session.evaluator(cell), session.tangent(cell.finetuning)
    (expert,) = cell.experts
    delta, _ = session.vectors(expert)
    named = ((cell.task, cell.card), (cell.control, cell.control_card))
    common: dict[str, Any] = {
        "tasks": cell.task,
        "finetuning": cell.finetuning,
        "operator": "negation",
        "board": "validation-tuned",
        "protocol": f"validation:control>={cell.keep:g}",
        "seed": cell.seed,
    }

    sets = session.image_sets(cell, named, "validation")
    found = evaluator.sweep(delta, [-c for c in cell.coefficients], sets, tangent=tangent)
    target, control = (
        {c: metrics.accuracy(int(r[i].sum()), len(r[i])) for c, r in zip(cell.coefficients, found, strict=True)}
        for i in range(2)
    )
    chosen = metrics.best_for_negation(target, control, cell.keep)
    rows = [
        row(cell, right, task=task, split="validation", scaling=c, selected=c == chosen, **common)
        for c, both in zip(cell.coefficients, found, strict=True)
        for (task, _), right in zip(named, both, strict=True)
    ]
    (tested,) = evaluator.sweep(delta, (-chosen,), session.image_sets(cell, named, "test"), tangent=tangent)
    rows += [
        row(cell, right, task=task, split="test", scaling=chosen, **common)
        for (task, _), right in zip(named, tested, strict=True)
    ]
    return rows, {"scaling": chosen}
