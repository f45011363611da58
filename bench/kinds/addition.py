"""Task addition: merge one set of experts, choose the coefficient on validation, look at the test split once."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from bench.cards.datasets import Split
from bench.ground import metrics
from bench.kinds.cells import Addition
from bench.kinds.protocol import Warm
from bench.kinds.rows import Found, row, seed_of
from bench.store.records import PRUNED
from bench.work import coefficients, pruning
from bench.work.inputs import SAW, Supplier
from bench.work.merge import NotApplicable, merge

Merged = Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]]
Right = Sequence[Tensor]
"""Bool [images] for each task."""


def run(
    cell: Addition, session: Warm, *, tangent: bool | None = None, reference: Mapping[str, float] | None = None
) -> Found:
    """Every coefficient that validation looks at has a row for each task; only the chosen one sees the test split.

    tangent: whether models are evaluated as tangent models; by default as their fine-tuning method trained them.
    reference: validation accuracy by task that the choice normalises with; by default that of the experts.
    """
    tangent = session.tangent(cell.finetuning) if tangent is None else tangent
    try:
        vector = merged(cell, session, tangent=tangent)
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
        "protocol": protocol(cell, session.registry.operator(cell.operator).needs),
    }
    rows = []
    chosen = cell.coefficients[0]
    facts: dict[str, Any] = {"merged_norm": norm(vector)}
    if searched:
        reference = reference or session.expert_accuracy(cell.experts, "validation")
        found, asked = validated(cell, session, vector, reference, tangent)
        chosen = choose(cell, found, reference)
        if session.runtime.prune:
            facts[PRUNED] = [c for c in asked if c not in found]
        for scaling, by_task in found.items():
            own = common | {"split": "validation", "scaling": scaling, "selected": scaling == chosen}
            rows += [row(cell, right, task=task, **own) for (task, _), right in zip(cell.tasks, by_task, strict=True)]
    (tested,) = sweep(cell, session, vector, (chosen,), "test", tangent)
    own = common | {"split": "test", "scaling": chosen}
    rows += [row(cell, right, task=task, **own) for (task, _), right in zip(cell.tasks, tested, strict=True)]
    return rows, facts


def merged(cell: Addition, session: Warm, *, tangent: bool) -> Merged:
    """The merged task vector, one for each task where the operator knows the task. NotApplicable: see
    `bench.work.merge`.
    """
    operator, options = session.registry.operator(cell.operator), json.loads(cell.options)
    seed = seed_of("merge", cell.operator, cell.seed)

    def supply(need: str, deltas: Sequence[Mapping[str, Tensor]]) -> Any:
        return Supplier(
            session.evaluator(cell).backbone,
            deltas,
            lambda: session.image_sets(cell, cell.tasks, "train"),
            lambda: session.image_sets(cell, cell.tasks, "test"),
            tangent,
            seed,
        )(need)

    return merge(operator, options, session.vectors, cell.experts, seed=seed, supply=supply)


def protocol(cell: Addition, needs: Sequence[str]) -> str:
    """How the coefficient was chosen, and what else the operator saw."""
    chosen = "validation:normalised" if len(cell.coefficients) > 1 else "fixed"
    chosen += "" if cell.sweep == coefficients.WHOLE else f":{cell.sweep}"
    return "; ".join([chosen, *(SAW[n] for n in needs if n in SAW)])


def sweep(
    cell: Addition, session: Warm, merged: Merged, scalings: Sequence[float], split: Split, tangent: bool
) -> list[list[Tensor]]:
    """`result[scaling][task]`, bool [images]; an operator that knows the task has one vector for each."""
    evaluator, sets = session.evaluator(cell), session.image_sets(cell, cell.tasks, split)
    if isinstance(merged, Mapping):
        return evaluator.sweep(merged, scalings, sets, tangent=tangent)
    apart = [
        evaluator.sweep(vector, scalings, [own], tangent=tangent) for vector, own in zip(merged, sets, strict=True)
    ]
    return [[by_scaling[i][0] for by_scaling in apart] for i in range(len(scalings))]


def validated(
    cell: Addition, session: Warm, merged: Merged, reference: Mapping[str, float], tangent: bool
) -> tuple[Mapping[float, Right], Sequence[float]]:
    """By coefficient and task, bool [images] of validation; and the coefficients that were asked for, of which
    `--runtime prune=true` leaves out those that could not win.
    """

    def measured(some: Sequence[float]) -> dict[float, Right]:
        return dict(zip(some, sweep(cell, session, merged, some, "validation", tangent), strict=True))

    def ask(some: Sequence[float], found: Mapping[float, Right]) -> Mapping[float, Right]:
        if tangent:
            return {c: curve[c] for c in some}
        if session.runtime.prune and isinstance(merged, Mapping):
            sets = session.image_sets(cell, cell.tasks, "validation")
            tasks = dict(zip((task for task, _ in cell.tasks), sets, strict=True))
            return pruning.sweep(session.evaluator(cell), merged, some, tasks, reference, found)
        return measured(some)

    # a tangent model is affine in the coefficient: its whole curve is one pass, from which the sweep takes its points
    curve = measured(cell.coefficients) if tangent else {}
    return coefficients.look(cell.sweep, cell.coefficients, ask, lambda found: choose(cell, found, reference))


def choose(cell: Addition, found: Mapping[float, Right], reference: Mapping[str, float]) -> float:
    """The coefficient with the best mean normalised validation accuracy."""
    return metrics.best_scaling({scaling: accuracies(cell, right) for scaling, right in found.items()}, reference)


def accuracies(cell: Addition, right: Right) -> dict[str, float]:
    """Accuracy by task, of bool [images] for each."""
    return {task: metrics.accuracy(int(r.sum()), len(r)) for (task, _), r in zip(cell.tasks, right, strict=True)}


def norm(merged: Merged) -> float:
    """Euclidean norm of a whole task vector, or of all of them."""
    parts = [merged] if isinstance(merged, Mapping) else merged
    return float(sum(t.double().square().sum() for vector in parts for t in vector.values()) ** 0.5)
