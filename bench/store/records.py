"""What a finished cell leaves behind: rows of integers, a few metrics, and where they came from.

Rows are the values of the benchmark: the same cell gives the same rows, bit for bit, wherever it runs. Everything
that differs between two honest runs (seconds, host, versions) is provenance and lives beside them, never in them.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.ground import toml_json

SCHEMA_VERSION = 1
CELL, CELL_SHA256 = b"bench_cell", b"bench_cell_sha256"
"""In the footer of a record: identity, metrics and provenance as JSON, and the hash of that text."""
MOST_BYTES, MOST_MEMORY = 2**26, 2**31
"""Of a record file, which has some ten thousand bytes: one that is larger, or would be decoded, is refused."""

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
    """One finished cell; some readers leave its rows out. `metrics` are deterministic numbers, `provenance` is not."""

    key: str
    identity: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> list[str]:
        """Keys of the cells that this one was made from, as its identity names them."""
        experts = self.identity.get("experts")
        return [key for key in experts if isinstance(key, str) and key] if isinstance(experts, list) else []

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that were merged or looked at; of an expert its own."""
        several = self.identity.get("tasks", [self.identity["task"]] if "task" in self.identity else [])
        return [
            str(t[0]) if isinstance(t, list) and t else str(t) for t in (several if isinstance(several, list) else ())
        ]

    @property
    def seconds(self) -> float | None:
        """Wall seconds that the cell took, as its provenance says; None where it does not."""
        noted = self.provenance.get("seconds")
        return float(noted) if isinstance(noted, int | float) and math.isfinite(noted) else None

    def dump(self) -> bytes:
        """The bytes of a record file: Parquet whose pages and header carry checksums."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.table(), sink, compression="zstd", write_page_checksum=True)
        return bytes(sink.getvalue().to_pybytes())

    @classmethod
    def load(cls, key: str, data: bytes) -> "Record":
        """Inverse of `dump`; ValueError or an Arrow error when the bytes are not what was written."""
        return cls.from_table(key, decode(data)[0])

    def table(self) -> pa.Table:
        """The rows as an Arrow table; a missing column or a wrong type fails here, before anything reaches a disk."""
        header = {"identity": self.identity, "metrics": self.metrics, "provenance": self.provenance}
        text = json.dumps(header, sort_keys=True).encode()
        metadata = {**(SCHEMA.metadata or {}), CELL: text, CELL_SHA256: hashlib.sha256(text).hexdigest().encode()}
        rows = [{"key": self.key, **row} for row in self.rows]
        missing = {name for row in rows for name in SCHEMA.names if name not in row}
        if missing:
            raise KeyError(f"record {self.key} lacks the columns {sorted(missing)}")
        return pa.Table.from_pylist(rows, schema=SCHEMA).replace_schema_metadata(metadata)

    @classmethod
    def from_table(cls, key: str, table: pa.Table) -> "Record":
        """Inverse of `table`."""
        header = header_of(table)
        rows = tuple({k: v for k, v in row.items() if k != "key"} for row in table.to_pylist())
        return cls(key, header["identity"], rows, header["metrics"], header["provenance"])


PRUNED = "pruned"
"""Metric of a record: the coefficients at which its validation sweep stopped early, which have no rows."""


def in_both(one: Record, other: Record) -> tuple[Record, Record]:
    """Two records of one cell without what only one of them measured, because the other's sweep stopped there."""
    lists = [record.metrics.get(PRUNED) for record in (one, other)]
    named = [c for pruned in lists if isinstance(pruned, list) for c in pruned]

    def without(record: Record) -> Record:
        rows = tuple(row for row in record.rows if row["split"] != "validation" or row["scaling"] not in named)
        return replace(record, rows=rows, metrics={k: v for k, v in record.metrics.items() if k != PRUNED})

    return without(one), without(other)


def decode(data: bytes) -> tuple[pa.Table, dict[str, Any]]:
    """`(table, header)` of a record file; ValueError or an Arrow error when the bytes are not what was written."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data):,} bytes, more than {MOST_BYTES:,}")
    table = read_parquet(data, MOST_MEMORY)
    if not table.schema.equals(SCHEMA):
        raise ValueError("not a record of this version")
    return table, header_of(table)


def header_of(table: pa.Table) -> dict[str, Any]:
    """Identity, metrics and provenance of a record's table."""
    footer = table.schema.metadata or {}
    text = footer.get(CELL, b"")
    if not text:
        raise ValueError("not a record of this version")
    if CELL_SHA256 in footer and hashlib.sha256(text).hexdigest().encode() != footer[CELL_SHA256]:
        raise ValueError("its header is not what was written")
    header = toml_json.parse_object(text, identity=dict, metrics=dict, provenance=dict)
    if not isinstance(header["identity"].get("kind"), str):
        raise ValueError("its identity has no kind")
    return header


def read_parquet(data: bytes, most: int | None = None) -> pa.Table:
    """A Parquet file in memory, checksums and text verified; ValueError if it might need more than `most` bytes.

    A third of the time of `pq.read_table`, which is made for folders of files.
    """
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    for i in range(file.metadata.num_row_groups if most else 0):
        group = file.metadata.row_group(i)
        # A column of one repeated value is small on disk; none is larger than all its bytes in every row.
        size = sum(group.column(j).total_uncompressed_size for j in range(group.num_columns))
        most = (most or 0) - group.num_rows * max(64, size)
        if most < 0:
            raise ValueError(f"{file.metadata.num_rows:,} rows in {len(data):,} bytes")
    table = file.read(use_threads=len(data) > 2**20)
    table.validate(full=True)
    return table


CELLS = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("key", "kind", "identity", "metrics", "provenance")],
    metadata={b"bench_schema": str(SCHEMA_VERSION).encode()},
)
"""One line per finished cell, for tables that need more than rows: identity, metrics and provenance as JSON."""


class Cells(dict[str, Record]):
    """{key: the finished cell without its rows}, from a table of `CELLS`. One that is not here has nothing to say."""

    def __init__(self, table: pa.Table) -> None:
        """ValueError names the cell whose text is no JSON object."""
        parts = ("identity", "metrics", "provenance")
        for key, *texts in zip(*(table[name].to_pylist() for name in ("key", *parts)), strict=True):
            parsed = {}
            for name, text in zip(parts, texts, strict=True):
                try:
                    parsed[name] = toml_json.parse_object(text)
                except ValueError as error:
                    raise ValueError(f"the {name} of cell {key} is no JSON object ({error})") from error
            self[key] = Record(key, parsed["identity"], (), parsed["metrics"], parsed["provenance"])

    def __missing__(self, key: str) -> Record:
        return Record(key, {})

    def seconds(self, keys: Iterable[str]) -> float | None:
        """Wall seconds of some cells together; None where one did not record its own."""
        taken = [self[key].seconds for key in sorted(keys)]
        return None if None in taken else sum(filter(None, taken))


def pack_bits(correct: Any) -> bytes:
    """Booleans [images] -> one bit each, first image in the highest bit of the first byte."""
    import numpy as np

    return bytes(np.packbits(np.asarray(correct, dtype=bool)))


def unpack_bits(bits: bytes, total: int) -> Any:
    """Inverse of `pack_bits`: bool array [total]."""
    import numpy as np

    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=total).astype(bool)
