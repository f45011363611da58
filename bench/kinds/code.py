"""Whose code computes a cell: the version of its method, and the `--include` file that the method is from."""

import re
from collections.abc import Mapping
from typing import Any

from bench.errors import BenchError
from bench.kinds.cells import Addition, Cell, Finetune
from bench.registry.catalogue import joint_version
from bench.registry.live import Registry


def source(known: Registry, cell: Cell) -> str:
    """Fingerprint of the code of one's own that computes a cell, its regulariser included; empty for all others."""
    own = (known.sources.get(name, "") for name in (_method(cell), getattr(cell, "regularizer", "")))
    return "+".join(filter(None, own))


def version(known: Registry, cell: Cell) -> int | None:
    """The version that this code has of what a cell computes; BenchError when it does not have it at all."""
    if isinstance(cell, Addition):
        if not known.knows(cell.operator):
            raise BenchError(f"{cell.label}: operator {cell.operator} is not here; give its file with --include")
        return known.operator(cell.operator).version
    if isinstance(cell, Finetune):
        if cell.method not in known.finetuning:
            raise BenchError(f"{cell.label}: method {cell.method} is not here; give its file with --include")
        if cell.regularizer and cell.regularizer not in known.regularizers:
            raise BenchError(f"{cell.label}: regulariser {cell.regularizer} is not here; give its file with --include")
        own = known.finetuning[cell.method].version
        return joint_version(own, known.regularizers[cell.regularizer].version) if cell.regularizer else own
    return getattr(type(cell), "version", None)


def hold(known: Registry, cell: Cell, provenance: Mapping[str, Any]) -> None:
    """BenchError unless this code computes what a cell's record, with this provenance, was computed by.

    A key holds a method's version, not its text: without this the old numbers of a user's file would pass for
    those of the edited one.
    """
    recorded, ours = getattr(cell, "version", None), version(known, cell)
    if recorded != ours:
        raise BenchError(
            f"{cell.label} was measured by version {recorded} of its method, here is version {ours}; use the bench "
            f"that measured it, or `bench run` to measure version {ours}"
        )
    now, then = source(known, cell), provenance.get("source")
    if now and then and now != then:
        penalty = getattr(cell, "regularizer", "")
        name = penalty if penalty in known.sources else _method(cell)
        trained: Mapping[str, Any] = known.finetuning | known.regularizers
        old = (known.operators if isinstance(cell, Addition) else trained)[name].version
        raise BenchError(
            f"the file that has {name} has changed since {cell.label} was measured here; write version={old + 1} "
            f"into its record (what was measured stays, named [v{old}]) or give it another name, and run again"
        )


def _method(cell: Cell) -> str:
    """The operator of a cell without modifiers and space, or the method that it fine-tunes with."""
    return re.split("[~@]", getattr(cell, "operator", "") or getattr(cell, "method", ""))[0]
