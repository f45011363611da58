"""Task addition: merge one set of experts, choose the coefficient on validation, look at the test split once."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bench import metrics, pruning
from bench.cards import Split
from bench.cells import Addition
from bench.kinds.rows import Found, row, seed_of
from bench.merge import NotApplicable, merge
from bench.records import PRUNED
from bench.supply import SAW, Supplier

if TYPE_CHECKING:
    from bench.run import Session

Merged = Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]]


def run(
    cell: Addition, session: "Session", *, tangent: bool | None = None, reference: Mapping[str, float] | None = None
) -> Found:
    """Every point of the validation sweep is a row; only the chosen coefficient sees the test split.

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
        "protocol": protocol(searched, session.registry.operator(cell.operator).needs),
    }
    rows = []
    chosen = cell.coefficients[0]
    facts: dict[str, Any] = {"merged_norm": norm(vector)}
    if searched:
        reference = reference or session.expert_accuracy(cell.experts, "validation")
        found = validated(cell, session, vector, reference, tangent)
        chosen = choose(cell, found, reference)
        if session.runtime.prune:
            facts[PRUNED] = [c for c in cell.coefficients if c not in found]
        for scaling, by_task in found.items():
            own = common | {"split": "validation", "scaling": scaling, "selected": scaling == chosen}
            rows += [row(cell, right, task=task, **own) for (task, _), right in zip(cell.tasks, by_task, strict=True)]
    (tested,) = sweep(cell, session, vector, (chosen,), "test", tangent)
    own = common | {"split": "test", "scaling": chosen}
    rows += [row(cell, right, task=task, **own) for (task, _), right in zip(cell.tasks, tested, strict=True)]
    return rows, facts


def merged(cell: Addition, session: "Session", *, tangent: bool) -> Merged:
    """The merged task vector, one for each task where the operator knows the task. NotApplicable: see `bench.merge`."""
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


def protocol(searched: bool, needs: Sequence[str]) -> str:
    """How the coefficient was chosen, and what else the operator saw."""
    return "; ".join(["validation:normalised" if searched else "fixed", *(SAW[n] for n in needs if n in SAW)])


def sweep(
    cell: Addition, session: "Session", merged: Merged, scalings: Sequence[float], split: Split, tangent: bool
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
    cell: Addition, session: "Session", merged: Merged, reference: Mapping[str, float], tangent: bool
) -> Mapping[float, Sequence[Tensor]]:
    """By coefficient and task, bool [images] of validation; with `--runtime prune=true` of those that could win."""
    if session.runtime.prune and isinstance(merged, Mapping) and not tangent:
        sets = session.image_sets(cell, cell.tasks, "validation")
        tasks = dict(zip((task for task, _ in cell.tasks), sets, strict=True))
        return pruning.sweep(session.evaluator(cell), merged, cell.coefficients, tasks, reference)
    return dict(
        zip(cell.coefficients, sweep(cell, session, merged, cell.coefficients, "validation", tangent), strict=True)
    )


def choose(cell: Addition, found: Mapping[float, Sequence[Tensor]], reference: Mapping[str, float]) -> float:
    """The coefficient with the best mean normalised validation accuracy."""
    points = {
        scaling: {
            task: metrics.accuracy(int(r.sum()), len(r)) for (task, _), r in zip(cell.tasks, by_task, strict=True)
        }
        for scaling, by_task in found.items()
    }
    return metrics.best_scaling(points, reference)


def norm(merged: Merged) -> float:
    """Euclidean norm of a whole task vector, or of all of them."""
    parts = [merged] if isinstance(merged, Mapping) else merged
    return float(sum(t.double().square().sum() for vector in parts for t in vector.values()) ** 0.5)
