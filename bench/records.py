"""What a finished cell leaves behind: rows of integers, a few metrics, and where they came from.

Rows are the values of the benchmark: the same cell gives the same rows, bit for bit, wherever it runs. Everything
that differs between two honest runs (seconds, host, versions) is provenance and lives beside them, never in them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1

_TEXT = (
    "key",
    "kind",
    "suite",
    "backbone",
    "finetuning",
    "operator",
    "options",
    "board",
    "protocol",
    "tasks",
    "task",
    "split",
)

SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in _TEXT]
    + [
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("scaling", pa.float64(), nullable=False),
        pa.field("selected", pa.bool_(), nullable=False),
        pa.field("correct", pa.int32(), nullable=False),
        pa.field("total", pa.int32(), nullable=False),
        pa.field("bits", pa.binary(), nullable=False),
    ],
    metadata={b"bench_schema": str(SCHEMA_VERSION).encode()},
)
"""One row = one model on one split of one task.

key         the cell that measured it
kind        zeroshot | expert | addition | negation | ...
finetuning  `att+orthoreg`; empty for the pretrained model
operator    `ties`, with modifiers and space (`tsv_m~lines`); empty for experts and the pretrained model
options     canonical JSON of the operator's options, `{}` when none
board       what it was allowed to see: data-free, validation-tuned, calibration, unlabelled-test, task-id, reference
protocol    how the scaling coefficient was chosen, e.g. `validation:normalised`, `fixed`
tasks       the merged tasks, joined by `+`; for an expert its own task
seed        seed of fine-tuning and merging; -1 where nothing is random
scaling     the coefficient; selected = the coefficient that validation chose
bits        one bit per image in card order (numpy.packbits), test split only; empty for validation sweeps
"""


@dataclass(frozen=True)
class Record:
    """One finished cell. `metrics` are deterministic numbers, `provenance` is not."""

    key: str
    identity: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> pa.Table:
        """The rows as an Arrow table; a missing column or a wrong type fails here, before anything reaches a disk."""
        header = {"identity": self.identity, "metrics": self.metrics, "provenance": self.provenance}
        metadata = {**(SCHEMA.metadata or {}), b"bench_cell": json.dumps(header, sort_keys=True).encode()}
        rows = [{"key": self.key, **row} for row in self.rows]
        missing = {name for row in rows for name in SCHEMA.names if name not in row}
        if missing:
            raise KeyError(f"record {self.key} lacks the columns {sorted(missing)}")
        return pa.Table.from_pylist(rows, schema=SCHEMA).replace_schema_metadata(metadata)

    @classmethod
    def from_table(cls, key: str, table: pa.Table) -> "Record":
        """Inverse of `table`."""
        header = json.loads((table.schema.metadata or {})[b"bench_cell"])
        rows = tuple({k: v for k, v in row.items() if k != "key"} for row in table.to_pylist())
        return cls(key, header["identity"], rows, header["metrics"], header["provenance"])


CELLS = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("key", "kind", "identity", "metrics", "provenance")],
    metadata={b"bench_schema": str(SCHEMA_VERSION).encode()},
)
"""One line per finished cell, for tables that need more than rows: identity, metrics and provenance as JSON."""


def pack_bits(correct: Any) -> bytes:
    """Booleans [images] -> one bit each, first image in the highest bit of the first byte."""
    import numpy as np

    return bytes(np.packbits(np.asarray(correct, dtype=bool)))


def unpack_bits(bits: bytes, total: int) -> Any:
    """Inverse of `pack_bits`: bool array [total]."""
    import numpy as np

    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=total).astype(bool)
