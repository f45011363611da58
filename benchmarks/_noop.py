"""A session that computes nothing: records as large as real ones, filled from a seed. For measuring the harness."""

import hashlib
from typing import Any

import numpy as np

from bench.cards import datasets
from bench.kinds.base import Cell
from bench.kinds.protocol import Outcome
from bench.store.records import Record, pack_bits
from bench.store.store import Store

PROVENANCE = {"host": "nowhere", "pid": 0, "seconds": 0.0, "cpu_seconds": 0.0, "device": "none", "commit": "",
              "machine": "", "python": "", "torch": "", "bench": "", "peak_rss_mb": 0.0, "finished_at": 0}  # fmt: skip


class Noop:
    """With `store`, every cell leaves a record (no task vector); without, an attempt does nothing at all."""

    def __init__(self, store: str = "") -> None:
        self.store = Store(store) if store else None

    def attempt(self, cell: Cell) -> Outcome:
        if self.store is not None:
            self.store.write(record(cell))
        return Outcome(cell.key, "done", 0.0)


def record(cell: Cell) -> Record:
    """A record with the rows that this cell would have, right or wrong by chance."""
    draw = np.random.default_rng(int.from_bytes(hashlib.sha256(cell.key.encode()).digest()[:8], "big"))
    return Record(cell.key, cell.identity, tuple(_rows(cell, draw)), {"drawn": float(draw.random())}, PROVENANCE)


def _rows(cell: Any, draw: np.random.Generator) -> list[dict[str, Any]]:
    usual = {
        "kind": cell.kind, "suite": cell.suite, "backbone": cell.backbone, "finetuning": "", "operator": "",
        "options": "{}", "board": "reference", "protocol": "", "seed": -1, "scaling": 0.0, "selected": True,
    }  # fmt: skip

    def row(task: str, split: str, **own: Any) -> dict[str, Any]:
        right = draw.random(datasets.load(task).splits[split].rows) < draw.uniform(0.3, 0.9)  # type: ignore[index]
        bits = pack_bits(right) if split == "test" else b""
        return {**usual, "tasks": task, **own, "task": task, "split": split, "correct": int(right.sum()),
                "total": len(right), "bits": bits}  # fmt: skip

    if cell.kind == "zeroshot":
        return [row(task, split) for task, _ in cell.tasks for split in ("validation", "test")]
    if cell.kind == "expert":
        own = {"finetuning": cell.finetuning, "seed": cell.seed, "scaling": 1.0}
        return [row(cell.task, split, **own) for split in ("validation", "test")]
    if cell.kind not in ("addition", "negation"):
        return []
    own = {"finetuning": cell.finetuning, "seed": cell.seed}
    if cell.kind == "negation":
        own |= {"operator": "negation", "tasks": cell.task, "protocol": "validation:keep"}
        tasks = (cell.task, cell.control)
    else:
        own |= {"operator": cell.operator, "options": cell.options, "board": cell.board, "protocol": "validation"}
        tasks = tuple(task for task, _ in cell.tasks)
        own["tasks"] = "+".join(tasks)
    best = cell.coefficients[len(cell.coefficients) // 2]
    swept = cell.coefficients if len(cell.coefficients) > 1 else ()
    rows = [row(t, "validation", **own, scaling=c, selected=c == best) for c in swept for t in tasks]
    return rows + [row(t, "test", **own, scaling=best) for t in tasks]
