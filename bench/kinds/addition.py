"""Task addition: merge one set of experts, choose the coefficient on validation, look at the test split once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bench.cards.datasets import Split
from bench.ground import metrics, names
from bench.ground.toml_json import canonical
from bench.kinds.base import OfExperts, Read, Task, measured, shared
from bench.kinds.protocol import Kind, Setting, Warm
from bench.kinds.rows import Measured, row, seed_of
from bench.work import coefficients
from bench.work.coefficients import WHOLE

if TYPE_CHECKING:
    from torch import Tensor

    Merged = Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]]
    Right = Sequence[Tensor]
    """Bool [images] for each task."""


@dataclass(frozen=True, kw_only=True)
class Addition(OfExperts):
    """Task addition: merge one set of experts with one operator, choose the coefficient, test once."""

    kind: ClassVar[str] = "addition"
    ranked: ClassVar[bool] = True

    tasks: tuple[Task, ...]
    """The merged tasks, in the suite's order."""
    operator: str
    version: int
    options: str
    """Canonical JSON of the operator's options."""
    coefficients: tuple[float, ...]
    board: str
    sweep: str = WHOLE  # which coefficients validation looks at: `bench.work.coefficients`

    @property
    def identity(self) -> dict[str, Any]:
        """Without a whole sweep: it was once the only one there was, and such cells keep their keys."""
        whole = super().identity
        return {name: value for name, value in whole.items() if (name, value) != ("sweep", WHOLE)}

    @property
    def merging(self) -> str:
        return self.operator

    @property
    def reads(self) -> tuple[Read, ...]:
        return measured(*(task for task, _ in self.tasks))

    @property
    def looks(self) -> int:
        points = len(self.coefficients)
        return coefficients.most(self.sweep, points) if points > 1 else 0

    @property
    def label(self) -> str:
        return f"{self.finetuning}/{self.operator} seed {self.seed}"


def plan(setting: Setting) -> list[Addition]:
    """One merge for each operator."""
    return [_merge(setting, operator) for operator in setting.merges]


def _merge(setting: Setting, operator: str) -> Addition:
    facts = setting.catalogue.operator(operator)
    values = tuple(float(c) for c in facts["coefficients"])
    searched = len(values) > 1
    return Addition(
        **shared(setting.experts),
        operator=operator,
        version=facts["version"],
        options=canonical(
            {option: choices[0] for option, choices in facts["grid"].items()}
            | setting.suite.operators.get(operator, {})
        ),
        coefficients=values,
        board="validation-tuned" if facts["board"] == "data-free" and searched else facts["board"],
        sweep=setting.sweep if searched else WHOLE,
    )


def run(cell: Addition, session: Warm, *, reference: Mapping[str, float] | None = None) -> Measured:
    """Every coefficient that validation looks at has a row for each task; only the chosen one sees the test split.

    reference: validation accuracy by task that the choice normalises with; by default that of the experts.
    """
    from bench.store.records import PRUNED
    from bench.work.merge import NotApplicable

    tangent = cell.linearised or session.tangent(cell.finetuning)
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
        "tasks": names.join_tasks(task for task, _ in cell.tasks),
        "seed": cell.seed,
        "protocol": protocol(cell, session.registry.operator(cell.operator).needs),
    }
    rows = []
    chosen = cell.coefficients[0]
    facts: dict[str, Any] = {"merged_norm": norm(vector)}
    if searched:
        reference = reference or session.expert_accuracy(cell.experts, "validation")
        validation, asked = validated(cell, session, vector, reference, tangent)
        chosen = choose(cell, validation, reference)
        if session.prune:
            facts[PRUNED] = [c for c in asked if c not in validation]
        for scaling, by_task in validation.items():
            own = common | {"split": "validation", "scaling": scaling, "selected": scaling == chosen}
            rows += [row(cell, right, task=task, **own) for (task, _), right in zip(cell.tasks, by_task, strict=True)]
    (tested,) = sweep(cell, session, vector, (chosen,), "test", tangent)
    own = common | {"split": "test", "scaling": chosen}
    rows += [row(cell, right, task=task, **own) for (task, _), right in zip(cell.tasks, tested, strict=True)]
    return rows, facts


def merged(cell: Addition, session: Warm, *, tangent: bool) -> "Merged":
    """The merged task vector, one for each task where the operator knows the task. NotApplicable: see
    `bench.work.merge`.
    """
    from bench.work.inputs import Supplier
    from bench.work.merge import merge

    operator, options = session.registry.operator(cell.operator), json.loads(cell.options)
    seed = seed_of("merge", cell.operator, cell.seed)

    def supply(need: str, deltas: "Sequence[Mapping[str, Tensor]]") -> Any:
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
    from bench.work.inputs import SAW

    chosen = "validation:normalised" if len(cell.coefficients) > 1 else "fixed"
    chosen += "" if cell.sweep == WHOLE else f":{cell.sweep}"
    return "; ".join([chosen, *(SAW[n] for n in needs if n in SAW)])


def sweep(
    cell: Addition, session: Warm, merged: "Merged", scalings: Sequence[float], split: Split, tangent: bool
) -> "list[list[Tensor]]":
    """`result[scaling][task]`, bool [images]; an operator that knows the task has one vector for each."""
    evaluator, sets = session.evaluator(cell), session.image_sets(cell, cell.tasks, split)
    if isinstance(merged, Mapping):
        return evaluator.sweep(merged, scalings, sets, tangent=tangent)
    apart = [
        evaluator.sweep(vector, scalings, [own], tangent=tangent) for vector, own in zip(merged, sets, strict=True)
    ]
    return [[by_scaling[i][0] for by_scaling in apart] for i in range(len(scalings))]


def validated(
    cell: Addition, session: Warm, merged: "Merged", reference: Mapping[str, float], tangent: bool
) -> "tuple[Mapping[float, Right], Sequence[float]]":
    """By coefficient and task, bool [images] of validation; and the coefficients that were asked for, of which
    `--runtime prune=true` leaves out those that could not win.
    """
    from bench.work import pruning

    def measure(some: Sequence[float]) -> "dict[float, Right]":
        return dict(zip(some, sweep(cell, session, merged, some, "validation", tangent), strict=True))

    def ask(some: Sequence[float], before: "Mapping[float, Right]") -> "Mapping[float, Right]":
        if tangent:
            return {c: curve[c] for c in some}
        if session.prune and isinstance(merged, Mapping):
            sets = session.image_sets(cell, cell.tasks, "validation")
            tasks = dict(zip((task for task, _ in cell.tasks), sets, strict=True))
            return pruning.sweep(session.evaluator(cell), merged, some, tasks, reference, before)
        return measure(some)

    # a tangent model is affine in the coefficient: its whole curve is one pass, from which the sweep takes its points
    curve = measure(cell.coefficients) if tangent else {}
    return coefficients.search(cell.sweep, cell.coefficients, ask, lambda points: choose(cell, points, reference))


def choose(cell: Addition, by_scaling: "Mapping[float, Right]", reference: Mapping[str, float]) -> float:
    """The coefficient with the best mean normalised validation accuracy."""
    return metrics.best_scaling({scaling: accuracies(cell, right) for scaling, right in by_scaling.items()}, reference)


def accuracies(cell: Addition, right: "Right") -> dict[str, float]:
    """Accuracy by task, of bool [images] for each."""
    return {task: metrics.accuracy(int(r.sum()), len(r)) for (task, _), r in zip(cell.tasks, right, strict=True)}


def norm(merged: "Merged") -> float:
    """Euclidean norm of a whole task vector, or of all of them."""
    parts = [merged] if isinstance(merged, Mapping) else merged
    return float(sum(t.double().square().sum() for vector in parts for t in vector.values()) ** 0.5)


KINDS = (Kind("addition", Addition, plan, run),)
