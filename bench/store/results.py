"""Results as two Arrow tables, wherever they lie: read them, write them, join two stores, look for contradictions.

A results folder holds `results.parquet` (rows, `records.SCHEMA`) and `cells.parquet` (one line per cell,
`records.CELLS`), sorted, so that equal results are equal bytes.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.errors import BenchError, StoreError, UnknownName, first_line
from bench.ground import toml_json
from bench.store.records import CELLS, SCHEMA, SCHEMA_VERSION, Cells, Record, in_both, read_parquet, unpack_bits
from bench.store.store import Store

ROWS_FILE, CELLS_FILE = "results.parquet", "cells.parquet"
_ROW_ORDER = (
    "kind",
    "backbone",
    "finetuning",
    "operator",
    "options",
    "tasks",
    "seed",
    "task",
    "split",
    "scaling",
    "key",
)
_SHOWN = 3


def load(source: Store | str | Path, suite: str | None = None, *, strict: bool = True) -> tuple[pa.Table, pa.Table]:
    """`(rows, cells)` of a store, a store's path or URL, a results folder or the folder of several suites' results; of
    one suite if `suite` is given.

    Raises StoreError when there is nothing, or when a file is damaged or of another version; if `strict`, also when a
    row or a cell cannot be (`check`).
    """
    if isinstance(source, Store):
        rows, cells = source.tables()
    elif "://" not in str(source) and (Path(source) / ROWS_FILE).exists():
        rows = _read(Path(source) / ROWS_FILE, SCHEMA)
        cells = _read(Path(source) / CELLS_FILE, CELLS)
    elif folders := _folders(source):
        if suite and suite not in folders:
            raise UnknownName("suite here", suite, folders)
        if not suite and len(folders) > 1:
            raise BenchError(
                f"{source}: results of {len(folders)} suites ({', '.join(folders)}); name one with --suite"
            )
        return load(Path(source) / (suite or folders[0]), suite, strict=strict)
    else:
        rows, cells = Store(source, create=False).tables()
    if strict:
        check(rows, cells, source.url if isinstance(source, Store) else str(source))
    return of_suite(rows, cells, suite) if suite else (rows, cells)


def _folders(source: str | Path) -> list[str]:
    """Names of the results folders in a folder such as `leaderboards`."""
    if "://" in str(source) or (Path(source) / "bench-store.json").exists():
        return []
    return sorted(path.parent.name for path in Path(source).glob(f"*/{ROWS_FILE}"))


def suites_in(rows: pa.Table) -> list[str]:
    """Names of the suites that rows were measured on."""
    return sorted(pc.unique(rows["suite"]).to_pylist())


def write(folder: Path, rows: pa.Table, cells: pa.Table) -> list[Path]:
    """Write a results folder: sorted, fixed options, so equal tables are equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows.sort_by([(name, "ascending") for name in _ROW_ORDER]).replace_schema_metadata(SCHEMA.metadata)
    cells = cells.sort_by("key").replace_schema_metadata(CELLS.metadata)
    for name, table in ((ROWS_FILE, rows), (CELLS_FILE, cells)):
        pq.write_table(
            table.combine_chunks(), folder / name, compression="zstd", compression_level=9, write_page_checksum=True
        )
    return [folder / ROWS_FILE, folder / CELLS_FILE]


def merge_stores(into: Store, other: Store) -> dict[str, int]:
    """Join another store's results by key.

    A key with other numbers is a conflict: a BenchError names it with its size and nothing is written. Returns how many
    cells were added, how many were there already with the same numbers, and how many task vectors came along.
    """
    shared = sorted(into.done() & other.done())
    new = sorted(other.done() - into.done())
    conflicts = [
        text
        for mine, theirs in zip(into.read_all(shared), other.read_all(shared), strict=True)
        if (text := _conflict(mine, theirs))
    ]
    if conflicts:
        first = "; ".join(conflicts[:_SHOWN]) + (
            f"; and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
        )
        raise BenchError(
            f"cannot merge {other.url} into {into.url}: {len(conflicts)} of {len(shared)} shared cells have other "
            f"numbers ({first}); nothing was merged, find out which store is wrong and delete its records"
        )
    vectors = 0
    for record in other.read_all(new):
        if other.has_vector(record.key) and not into.has_vector(record.key):
            into.write_vector(record.key, other.read_vector(record.key))
            vectors += 1
        into.write(record)
    return {"added": len(new), "already": len(shared), "vectors": vectors}


def validate(source: Store | str | Path) -> list[str]:
    """Contradictions within a store or results folder, one line each; an empty list means none.

    Counts are possible, bits sum to them, every row of a task and split has the same total, cells and rows name each
    other, upstream cells exist, and nothing was measured twice.
    """
    rows, cells = load(source, strict=False)
    return [*_bad_counts(rows), *_bad_totals(rows), *_bad_keys(rows, cells), *_duplicates(rows)]


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = read_parquet(path.read_bytes())
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = first_line(error)
        raise StoreError(f"{path} cannot be read ({reason}); restore it or build it again from its store") from error
    version = (table.schema.metadata or {}).get(b"bench_schema", b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise StoreError(
            f"{path} has version {version}, this bench reads version {SCHEMA_VERSION}; use the bench that wrote it"
        )
    if not table.schema.equals(schema):
        raise StoreError(f"{path} does not hold the columns of version {SCHEMA_VERSION}; build it again from its store")
    return table


def check(rows: pa.Table, cells: pa.Table, where: str) -> None:
    """Refuse what no reader could make sense of; StoreError names the first such row or cell.

    Counts are possible, bits are as many as images, coefficients finite, all rows of a task agree on the number of its
    images; identity, metrics and provenance are JSON objects. Further contradictions are for `validate`.
    """
    correct, total, length = rows["correct"], rows["total"], pc.binary_length(rows["bits"])
    bytes_ = pc.shift_right(pc.add(total, 7), 3)
    wrong = (
        pc.less(correct, 0), pc.greater(correct, total), pc.equal(total, 0), pc.invert(pc.is_finite(rows["scaling"])),
        pc.and_(pc.greater(length, 0), pc.not_equal(length, bytes_)),
    )  # fmt: skip
    bad = rows.filter(functools.reduce(pc.or_, wrong)).slice(0, 1).to_pylist()
    problem = f"{bad[0]['key']}: a row of {bad[0]['task']}/{bad[0]['split']} cannot be" if bad else ""
    problem = problem or next(iter(_bad_totals(rows)), "")
    if problem:
        raise StoreError(f"{where}: {problem}; `bench results validate` lists all such rows, delete their records")
    try:
        Cells(cells)
    except ValueError as error:
        raise StoreError(f"{where}: {error}") from error
    for text in pc.unique(rows["options"]).to_pylist():
        try:
            toml_json.parse_object(text)
        except ValueError as error:
            raise StoreError(f"{where}: the options {text!r} of a row are no JSON object ({error})") from error


def of_suite(rows: pa.Table, cells: pa.Table, suite: str) -> tuple[pa.Table, pa.Table]:
    """The rows of one suite and the cells that belong to it."""
    rows = rows.filter(pc.equal(rows["suite"], suite))
    measured, parsed = set(pc.unique(rows["key"]).to_pylist()), Cells(cells)
    belongs = [key in measured or parsed[key].identity.get("suite") == suite for key in cells["key"].to_pylist()]
    return rows, cells.filter(pa.array(belongs, pa.bool_()))


def _conflict(mine: Record, theirs: Record) -> str:
    """What differs between two records of one key, and by how much; empty when the rows and metrics agree."""
    mine, theirs = in_both(mine, theirs)
    identify = ("task", "split", "scaling", "seed", "operator", "finetuning", "tasks")
    a, b = ({tuple(row[n] for n in identify): row for row in record.rows} for record in (mine, theirs))
    if set(a) != set(b):
        return f"{mine.key}: {len(a)} rows here, {len(b)} there"
    different = [name for name in a if dict(a[name]) != dict(b[name])]
    if different:
        gap = max(
            abs(a[n]["correct"] / max(1, a[n]["total"]) - b[n]["correct"] / max(1, b[n]["total"])) for n in different
        )
        return f"{mine.key}: {len(different)} of {len(a)} rows differ, by up to {100 * gap:.2f} points"
    if json.dumps(mine.metrics, sort_keys=True) != json.dumps(theirs.metrics, sort_keys=True):
        return f"{mine.key}: same rows, other metrics"
    return ""


def _bad_counts(rows: pa.Table) -> Iterable[str]:
    columns = [rows[name].to_pylist() for name in ("key", "task", "split", "correct", "total", "bits")]
    for key, task, split, correct, total, bits in zip(*columns, strict=True):
        where = f"{key} {task}/{split}"
        if not 0 <= correct <= total or total == 0:
            yield f"{where}: {correct} correct of {total} is impossible"
        elif bits and len(bits) != (total + 7) // 8:
            yield f"{where}: {len(bits)} bytes of correctness bits for {total} images"
        elif bits and int(np.sum(unpack_bits(bits, total))) != correct:
            yield f"{where}: correctness bits sum to {int(np.sum(unpack_bits(bits, total)))}, the row says {correct}"


def _bad_totals(rows: pa.Table) -> Iterable[str]:
    grouped = rows.group_by(["suite", "task", "split"]).aggregate([("total", "min"), ("total", "max")])
    for row in grouped.sort_by([("suite", "ascending"), ("task", "ascending"), ("split", "ascending")]).to_pylist():
        if row["total_min"] != row["total_max"]:
            where = f"{row['suite']} {row['task']}/{row['split']}"
            yield f"{where}: rows disagree about the number of images, {row['total_min']} to {row['total_max']}"


def _bad_keys(rows: pa.Table, cells: pa.Table) -> Iterable[str]:
    finished = Cells(cells)
    for key in sorted(set(pc.unique(rows["key"]).to_pylist()) - finished.keys()):
        yield f"{key}: rows without a cell, or a key that is not its record's file name"
    for key, cell in finished.items():
        missing = sorted(set(cell.needs) - finished.keys())
        if missing:
            yield f"{key}: made from {len(missing)} cells that are not here, first {missing[0]}"


def _duplicates(rows: pa.Table) -> Iterable[str]:
    counts = rows.group_by(["key", "tasks", "task", "split", "seed", "scaling"]).aggregate([("correct", "count")])
    for row in counts.filter(pc.greater(counts["correct_count"], 1)).sort_by("key").to_pylist():
        where = f"{row['task']}/{row['split']} at scaling {row['scaling']:g}"
        yield f"{row['key']}: {where} is there {row['correct_count']} times"
