"""The pretrained model with its zero-shot heads: where every coefficient sweep starts."""

from bench.cards.datasets import SPLITS
from bench.kinds.cells import ZeroShot
from bench.kinds.protocol import Warm
from bench.kinds.rows import Found, row


def run(cell: ZeroShot, session: Warm) -> Found:
    """Validation and test accuracy on every task and on the control."""
    evaluator = session.evaluator(cell)
    rows = []
    for task, fingerprint in cell.tasks:
        for split in SPLITS[1:]:
            images, head = session.images(cell, task, fingerprint, split)
            right = evaluator.untouched(images, head)
            rows.append(row(cell, right, task=task, tasks=task, split=split, board="reference"))
    return rows, {}
