"""The pretrained model with its zero-shot heads: where every coefficient sweep starts."""

from dataclasses import dataclass
from typing import ClassVar

from bench.cards.datasets import SPLITS
from bench.kinds.base import Cell, Read, Task, measured
from bench.kinds.protocol import Kind, Setting, Warm
from bench.kinds.rows import Measured, row


@dataclass(frozen=True)
class ZeroShot(Cell):
    """The pretrained model with its zero-shot heads on every task and on the control."""

    kind: ClassVar[str] = "zeroshot"

    tasks: tuple[Task, ...]
    """The control last."""

    @property
    def reads(self) -> tuple[Read, ...]:
        return measured(*(task for task, _ in self.tasks))

    @property
    def label(self) -> str:
        return "zero-shot"


def plan(setting: Setting) -> list[ZeroShot]:
    """One cell for the backbone."""
    suite = setting.suite
    tasks = tuple((task, suite.card(task).fingerprint) for task in (*setting.tasks, suite.control))
    return [ZeroShot(**setting.where, tasks=tasks)]


def run(cell: ZeroShot, session: Warm) -> Measured:
    """Validation and test accuracy on every task and on the control."""
    evaluator = session.evaluator(cell)
    rows = []
    for task, fingerprint in cell.tasks:
        for split in SPLITS[1:]:
            ((images, head),) = session.image_sets(cell, [(task, fingerprint)], split)
            right = evaluator.untouched(images, head)
            rows.append(row(cell, right, task=task, tasks=task, split=split, board="reference"))
    return rows, {}


KINDS = (Kind("zeroshot", ZeroShot, plan, run),)
