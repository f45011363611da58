"""One expert: fine-tune on one task, keep the task vector, evaluate it as the kind of model it is."""

from typing import TYPE_CHECKING, Any

from bench import finetune, weights
from bench.cards import SPLITS
from bench.cells import Finetune
from bench.kinds.rows import Found, row, seed_of

if TYPE_CHECKING:
    from bench.run import Session


def run(cell: Finetune, session: "Session") -> Found:
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
        regulariser=cell.regularizer or None,
        seed=seed_of("finetune", cell.task, cell.seed),
        mean=base.card.mean,
        std=base.card.std,
        device=base.device,
    )
    common: dict[str, Any] = {
        "task": cell.task,
        "tasks": cell.task,
        "board": "reference",
        "finetuning": cell.finetuning,
        "seed": cell.seed,
    }
    rows = []
    for split in SPLITS[1:]:
        sets = [session.images(cell, cell.task, cell.card, split)]
        ((right,),) = evaluator.sweep(expert.delta, (1.0,), sets, tangent=method.tangent)
        rows.append(row(cell, right, split=split, scaling=1.0, **common))
    about = {"key": cell.key, "backbone": cell.backbone, "task": cell.task, "finetuning": cell.finetuning}
    data = weights.dump(expert.delta, expert.factors, about)
    session.store.write_vector(cell.key, data)
    return rows, {**expert.metrics, "vector_sha256": weights.sha256(data)}
