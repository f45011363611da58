"""Task addition: merge one set of experts, choose the coefficient on validation, look at the test split once."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bench import metrics
from bench.cells import Addition
from bench.kinds.rows import Found, row, seed_of
from bench.merge import NotApplicable, merge

if TYPE_CHECKING:
    from bench.run import Session


def run(
    cell: Addition, session: "Session", *, tangent: bool | None = None, reference: Mapping[str, float] | None = None
) -> Found:
    """Every point of the validation sweep is a row; only the chosen coefficient sees the test split.

    tangent: whether models are evaluated as tangent models; by default as their fine-tuning method trained them.
    reference: validation accuracy by task that the choice normalises with; by default that of the experts.
    """
    evaluator = session.evaluator(cell)
    tangent = session.tangent(cell.finetuning) if tangent is None else tangent
    operator, options = session.registry.operator(cell.operator), json.loads(cell.options)
    try:
        merged = merge(
            operator, options, session.vectors, cell.experts, seed=seed_of("merge", cell.operator, cell.seed)
        )
    except NotApplicable as error:
        return [], {"not_applicable": str(error)}
    searched = len(cell.coefficients) > 1
    common: dict[str, Any] = {
        "finetuning": cell.finetuning,
        "operator": cell.operator,
        "options": cell.options,
        "board": cell.board,
        "tasks": "+".join(task for task, _ in cell.tasks),
        "seed": cell.seed,
        "protocol": "validation:normalised" if searched else "fixed",
    }
    rows = []
    chosen = cell.coefficients[0]
    if searched:
        found = evaluator.sweep(
            merged, cell.coefficients, session.image_sets(cell, cell.tasks, "validation"), tangent=tangent
        )
        chosen = choose(cell, found, reference or session.expert_accuracy(cell.experts, "validation"))
        for scaling, by_task in zip(cell.coefficients, found, strict=True):
            for (task, _), right in zip(cell.tasks, by_task, strict=True):
                rows.append(
                    row(
                        cell,
                        right,
                        task=task,
                        split="validation",
                        scaling=scaling,
                        **common | {"selected": scaling == chosen},
                    )
                )
    (tested,) = evaluator.sweep(merged, (chosen,), session.image_sets(cell, cell.tasks, "test"), tangent=tangent)
    for (task, _), right in zip(cell.tasks, tested, strict=True):
        rows.append(row(cell, right, task=task, split="test", scaling=chosen, **common))
    return rows, {"merged_norm": norm(merged)}


def choose(cell: Addition, found: Sequence[Sequence[Tensor]], reference: Mapping[str, float]) -> float:
    """The coefficient with the best mean normalised validation accuracy."""
    points = {
        scaling: {
            task: metrics.accuracy(int(r.sum()), len(r)) for (task, _), r in zip(cell.tasks, by_task, strict=True)
        }
        for scaling, by_task in zip(cell.coefficients, found, strict=True)
    }
    return metrics.best_scaling(points, reference)


def norm(vector: Mapping[str, Tensor]) -> float:
    """Euclidean norm of a whole task vector."""
    return float(sum(t.double().square().sum() for t in vector.values()) ** 0.5)
