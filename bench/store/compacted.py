"""Parts: many records in two files, so that reading ten thousand of them opens two files. A cache, never the truth.

    STORE/parts/ID.rows.parquet    rows of all records in it, by key
    STORE/parts/ID.cells.parquet   a line for each record, with the size and time of the record file it was read from

The rows are published first, so a part that can be seen is whole; the ID is the sha256 of both files. A record is taken
from a part only while its own file still has the size and time noted there: one that was deleted is not done, one that
was written again is read from its file. Files younger than `SETTLED` are left out of a part, because some file systems
count time in seconds.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.store.records import CELLS, SCHEMA, SCHEMA_VERSION, read_parquet
from bench.store.records import decode as decode_record

ROWS, LINES = ".rows.parquet", ".cells.parquet"
ENDINGS = LINES, ROWS
"""In the order of removal: a part without its cells is seen by nobody."""
SETTLED = 5.0
"""Seconds after which a record file that was not touched is taken into a part."""
PAYS = 100
"""Below so many records, opening their files is quicker than opening a part."""

STAMPED = pa.schema(
    [*CELLS] + [pa.field(name, pa.int64(), nullable=False) for name in ("rows", "size", "modified")],
    metadata={b"bench_schema": str(SCHEMA_VERSION).encode()},
)


class Stamp(NamedTuple):
    """What a listing says of a record file: bytes, and nanoseconds since 1970."""

    size: int
    modified: int


@dataclass(frozen=True)
class Piece:
    """Some records next to each other: their rows, a line for each (`CELLS`), and how many rows each has."""

    rows: pa.Table
    lines: pa.Table
    counts: Sequence[int]


def of_record(key: str, data: bytes) -> Piece:
    """One record from the bytes of its file; ValueError or an Arrow error when these are not what was written."""
    table, header = decode_record(data)
    line = {"key": key, "kind": header["identity"]["kind"]}
    line |= {name: json.dumps(header[name], sort_keys=True) for name in ("identity", "metrics", "provenance")}
    rows = table.replace_schema_metadata(SCHEMA.metadata)
    return Piece(rows, pa.Table.from_pylist([line], schema=CELLS), [len(table)])


def joined(pieces: Iterable[Piece]) -> Piece:
    """Pieces, one after the other."""
    pieces = list(pieces)
    return Piece(
        pa.concat_tables([SCHEMA.empty_table(), *(p.rows for p in pieces)]),
        pa.concat_tables([CELLS.empty_table(), *(p.lines for p in pieces)]),
        [count for p in pieces for count in p.counts],
    )


class Part:
    """One part in memory. `ValueError` when the two tables contradict each other."""

    def __init__(self, rows: pa.Table, lines: pa.Table) -> None:
        if not rows.schema.equals(SCHEMA) or not lines.schema.equals(STAMPED):
            raise ValueError("not a part of this version")
        self.rows, self.lines = rows, lines.select(CELLS.names).replace_schema_metadata(CELLS.metadata)
        self._counts = lines["rows"].to_pylist()
        if min(self._counts, default=0) < 0 or sum(self._counts) != len(rows):
            raise ValueError("rows and cells do not belong together")
        self._starts = np.concatenate([[0], np.cumsum(self._counts, dtype=np.int64)])
        self._places = {key: place for place, key in enumerate(lines["key"].to_pylist())}
        self._stamps = list(zip(lines["size"].to_pylist(), lines["modified"].to_pylist(), strict=True))

    def __contains__(self, record: tuple[str, Stamp]) -> bool:
        """Whether the part holds a record as its file is now."""
        key, stamp = record
        return key in self._places and self._stamps[self._places[key]] == stamp

    def pieces(self, keys: Iterable[str]) -> Iterator[Piece]:
        """The records of `keys`, in this order, as few pieces that copy nothing."""
        places = [self._places[key] for key in keys]
        breaks = [0, *(i for i in range(1, len(places)) if places[i] != places[i - 1] + 1), len(places)]
        for begin, end in itertools.pairwise(breaks):
            if begin < end:
                first, last = places[begin], places[end - 1] + 1
                rows = self.rows.slice(self._starts[first], self._starts[last] - self._starts[first])
                yield Piece(rows, self.lines.slice(first, last - first), self._counts[first:last])


def encode(piece: Piece, stamps: Mapping[str, Stamp]) -> tuple[str, bytes, bytes]:
    """`(ID, rows file, cells file)` of a part."""
    noted = [stamps[key] for key in piece.lines["key"].to_pylist()]
    columns = piece.counts, [stamp.size for stamp in noted], [stamp.modified for stamp in noted]
    lines = pa.table([*piece.lines.columns, *(pa.array(column, pa.int64()) for column in columns)], schema=STAMPED)
    rows, cells = _bytes(piece.rows), _bytes(lines)
    return _name(rows, cells), rows, cells


def decode(name: str, rows: bytes, lines: bytes) -> Part:
    """Inverse of `encode`; `ValueError` or an Arrow error when the bytes are not this part."""
    if _name(rows, lines) != name:
        raise ValueError("its sha256 is not its name")
    return Part(read_parquet(rows), read_parquet(lines))


def _name(rows: bytes, lines: bytes) -> str:
    return hashlib.sha256(rows + lines).hexdigest()[:20]


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
