"""Kinds of cells and experiments, one file each.

A kind is a class of cells, and how to plan, run and price them: `Kind` in `bench.kinds.protocol`. An experiment is what
a grid asks for: a kind whose cells look at a set of experts. `FILES` is all that says which there are. Nothing here
imports torch before a cell runs.
"""

from typing import Any

from bench.errors import BenchError
from bench.kinds import (
    addition,
    disentanglement,
    expert,
    geometry,
    imported,
    negation,
    posthoc,
    strength,
    subsets,
    zero_shot,
)
from bench.kinds.base import KEY_VERSION, Cell, OfExperts
from bench.kinds.protocol import Kind

FILES = (zero_shot, expert, imported, addition, negation, geometry, subsets, disentanglement, posthoc, strength)
KINDS: dict[str, Kind[Any]] = {kind.name: kind for file in FILES for kind in file.KINDS}

EXPERIMENTS = tuple(name for name, kind in KINDS.items() if issubclass(kind.cell, OfExperts))
"""What a grid may name."""


def from_identity(identity: Any, key: str = "") -> Cell:
    """The cell that has this identity, and this key if one is given; refuses one written by another key version."""
    values = identity if isinstance(identity, dict) else {}
    name, version = values.get("kind"), values.get("key_version")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or kind.cell.kind != name or version != KEY_VERSION:
        raise BenchError(f"cell of kind {name!r}, key version {version!r} is unknown here; use the bench that wrote it")
    try:
        cell: Cell = kind.cell.of(values)
        damaged = cell.key != key if key else False
    except (KeyError, TypeError, ValueError, AttributeError):
        damaged = True
    if damaged:
        raise BenchError(f"identity of the {name} cell {key or '(no key)'} is damaged; delete its file and run again")
    return cell
