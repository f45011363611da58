"""Whose code computes a cell: the version of its method, and the `--include` file that the method is from."""

from collections.abc import Mapping
from typing import Any

from bench.errors import BenchError
from bench.ground import names
from bench.kinds.base import Cell, Expert
from bench.registry.catalogue import joint_version
from bench.registry.live import Registry


def source(registry: Registry, cell: Cell) -> str:
    """Fingerprint of the code of one's own that computes a cell, its regulariser included; empty for all others."""
    own = (registry.sources.get(name, "") for name in (_method(cell), getattr(cell, "regularizer", "")))
    return "+".join(filter(None, own))


def version(registry: Registry, cell: Cell) -> int | None:
    """The version that this code has of what a cell computes; BenchError when it does not have it at all."""
    if cell.merging:
        if not registry.knows(cell.merging):
            raise BenchError(f"{cell.label}: operator {cell.merging} is not here; give its file with --include")
        return registry.operator(cell.merging).version
    if isinstance(cell, Expert):
        if cell.method not in registry.finetuning:
            raise BenchError(f"{cell.label}: method {cell.method} is not here; give its file with --include")
        if cell.regularizer and cell.regularizer not in registry.regularizers:
            raise BenchError(f"{cell.label}: regulariser {cell.regularizer} is not here; give its file with --include")
        own = registry.finetuning[cell.method].version
        return joint_version(own, registry.regularizers[cell.regularizer].version) if cell.regularizer else own
    return getattr(type(cell), "version", None)  # the default of the field, where the kind has a version of its own


def hold(registry: Registry, cell: Cell, provenance: Mapping[str, Any]) -> None:
    """BenchError unless this code computes what a cell's record, with this provenance, was computed by.

    A key holds a method's version, not its text: without this the old numbers of a user's file would pass for
    those of the edited one.
    """
    recorded, ours = cell.identity.get("version"), version(registry, cell)
    if recorded not in (None, ours):
        raise BenchError(
            f"{cell.label} was measured by version {recorded} of its method, here is version {ours}; use the bench "
            f"that measured it, or `bench run` to measure version {ours}"
        )
    now, then = source(registry, cell), provenance.get("source")
    if now and then and now != then:
        penalty = getattr(cell, "regularizer", "")
        name = penalty if penalty in registry.sources else _method(cell)
        trained: Mapping[str, Any] = registry.finetuning | registry.regularizers
        old = (registry.operators if cell.merging else trained)[name].version
        raise BenchError(
            f"the file that has {name} has changed since {cell.label} was measured here; write version={old + 1} "
            f"into its record (what was measured stays, named [v{old}]) or give it another name, and run again"
        )


def _method(cell: Cell) -> str:
    """The operator of a cell without modifiers and space, or the method that it is an expert of."""
    return cell.method if isinstance(cell, Expert) else names.merging(cell.merging).operator
