"""One expert: fine-tune on one task, keep the task vector, evaluate it as the kind of model it is."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bench.cards.datasets import SPLITS
from bench.kinds.cells import Expert, Finetune, Posthoc
from bench.kinds.protocol import Warm
from bench.kinds.rows import Found, Rows, row, seed_of
from bench.store import task_vectors
from bench.work import finetune


def run(cell: Finetune, session: Warm) -> Found:
    """Rows for validation and test; loss, penalty and norms as metrics. The vector is stored before the record."""
    evaluator = session.evaluator(cell)
    base, method = evaluator.backbone, session.registry.finetuning[cell.method]
    train, head = session.images(cell, cell.task, cell.card, "train")
    expert = finetune.train(
        base.tower,
        base.pretrained,
        head,
        evaluator.near(train).pixels,
        train.labels,
        cell.recipe,
        method=method,
        regulariser=session.registry.regularizers[cell.regularizer] if cell.regularizer else None,
        seed=seed_of("finetune", cell.task, cell.seed),
        mean=base.card.mean,
        std=base.card.std,
        device=base.device,
        checkpoint=session.checkpoint(cell),
    )
    about = {"key": cell.key, "backbone": cell.backbone, "task": cell.task, "finetuning": cell.finetuning}
    data = task_vectors.dump(expert.delta, expert.factors, about)
    session.store.write_vector(cell.key, data)
    rows = evaluated(cell, session, (cell.task, cell.card), expert.delta, kind=cell.kind, tangent=method.tangent)
    return rows, {**expert.metrics, "vector_sha256": task_vectors.sha256(data)}


def evaluated(
    cell: Expert | Posthoc,
    session: Warm,
    task: tuple[str, str],
    delta: Mapping[str, Tensor],
    *,
    kind: str,
    tangent: bool,
) -> Rows:
    """Validation and test rows of one expert on its own `task`, (dataset, card fingerprint)."""
    common: dict[str, Any] = {
        "kind": kind,
        "task": task[0],
        "tasks": task[0],
        "board": "reference",
        "finetuning": cell.finetuning,
        "seed": cell.seed,
        "scaling": 1.0,
    }
    rows = []
    for split in SPLITS[1:]:
        sets = session.image_sets(cell, [task], split)
        ((right,),) = session.evaluator(cell).sweep(delta, (1.0,), sets, tangent=tangent)
        rows.append(row(cell, right, split=split, **common))
    return rows
