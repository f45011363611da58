"""Rows: the one place where correctness becomes integers and bits."""

import hashlib
from typing import TYPE_CHECKING, Any

from bench.kinds.base import Cell

if TYPE_CHECKING:
    from torch import Tensor

Rows = list[dict[str, Any]]
Measured = tuple[Rows, dict[str, Any]]
"""What a cell gives: rows, integers and coefficients (`bench.store.records.SCHEMA` without the key); and metrics,
deterministic numbers."""


def row(cell: Cell, right: "Tensor", *, task: str, tasks: str, split: str, board: str, **more: Any) -> dict[str, Any]:
    """One row from `right`, bool [images]. Bits are kept for the test split only: sweeps need counts alone."""
    from bench.store.records import pack_bits

    fixed = {
        "kind": cell.kind,
        "suite": cell.suite,
        "backbone": cell.backbone,
        "task": task,
        "tasks": tasks,
        "split": split,
    }
    usual = {
        "finetuning": "",
        "operator": "",
        "options": "{}",
        "protocol": "",
        "seed": -1,
        "scaling": 0.0,
        "selected": True,
    }
    counts = {
        "correct": int(right.sum()),
        "total": len(right),
        "bits": pack_bits(right.numpy()) if split == "test" else b"",
    }
    return {**fixed, "board": board, **usual, **more, **counts}


def seed_of(purpose: str, what: str, index: int) -> int:
    """63-bit seed from purpose, task and index; the same for every method, so that comparisons are paired."""
    return int.from_bytes(hashlib.sha256(f"{purpose}|{what}|{index}".encode()).digest()[:8], "big") >> 1
