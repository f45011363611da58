"""`bench verify`: run the cells behind a stored row again, with this machine's code, and compare integers and bits.

Everything that is computed goes to a scratch store in a temporary folder, which falls back on the record for what it
does not have. What is verified is never written to, so it may be a store, somebody else's store, or the committed
leaderboards. Rows (counts, correctness bits, chosen coefficients) decide; metrics such as losses and hashes may differ
between machines without any image changing sides and are only mentioned, except for cells that measure nothing else.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.cards import suites
from bench.errors import BenchError, Unwritable, shown
from bench.kinds import code, from_identity
from bench.kinds.base import KEY, Cell, Expert
from bench.kinds.expert import Finetune
from bench.kinds.imported import Imported
from bench.kinds.session import Session
from bench.planning import preflight
from bench.registry.live import Registry
from bench.store import results
from bench.store.records import Cells, Record, in_both, unpack_bits
from bench.store.store import Store
from bench.tables import collect
from bench.work.runtime import How

MADE_WITH = ("torch", "machine", "device", "commit")
"""What of a record's provenance is shown when a cell comes out different."""


@dataclass(frozen=True)
class Change:
    """One row that came out different. `images`: how many are right in one and wrong in the other, by the bits where
    there are any, else at least so many by the counts."""

    task: str
    split: str
    scaling: float
    recorded: int
    here: int
    images: int
    note: str = ""

    @property
    def text(self) -> str:
        """`digits 3 images (401 -> 400 right)`."""
        plural = "" if self.images == 1 else "s"
        return self.note or f"{self.task} {self.images} image{plural} ({self.recorded} -> {self.here} right)"


@dataclass(frozen=True)
class Verdict:
    """One cell that was run again."""

    key: str
    cell: str
    images: int
    """Test images compared by their bits."""
    seconds: float
    changes: tuple[Change, ...]
    metrics: Mapping[str, tuple[Any, Any]]
    """Name -> (recorded, here), where they differ."""
    recorded_with: Mapping[str, str]
    here_with: Mapping[str, str]

    @property
    def same(self) -> bool:
        """Whether every integer and every bit is the record's; the metrics, where no image was looked at."""
        return not self.changes and (self.images > 0 or not self.metrics)

    @property
    def text(self) -> str:
        """The verdict in one line."""
        beside = [f"metrics differ: {', '.join(self.metrics)}"] if self.metrics else []
        if self.same:
            said = [f"{self.images:,} test images" if self.images else "metrics", f"{self.seconds:.1f} s", *beside]
            return f"same     {self.cell} ({self.key}): {', '.join(said)}"
        said = [c.text for c in self.changes if c.split == "test"]
        swept = sum(c.split == "validation" for c in self.changes)
        said += [f"{swept} validation count{'' if swept == 1 else 's'}"] if swept else []
        said += [] if self.changes else beside
        unlike = [n for n in MADE_WITH if self.recorded_with[n] != self.here_with[n]]
        then = ", ".join(f"{n} {self.recorded_with[n]} -> {self.here_with[n]}" for n in unlike)
        return f"differs  {self.cell} ({self.key}): {'; '.join(said)}{f' [{then}]' if then else ''}"

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {"same": self.same, **asdict(self)}


@dataclass(frozen=True)
class Recorded:
    """Results as they were measured: two Arrow tables, and the store they are in, if it is one."""

    where: str
    suite: str
    rows: pa.Table
    cells: pa.Table
    store: Store | None

    @classmethod
    def open(cls, where: str, suite: str = "") -> "Recorded":
        """A store, or a results folder such as `leaderboards/mini8`, which has no task vectors."""
        folders = [] if "://" in where else [Path(where), Path(where) / suite]
        kept = any((folder / results.ROWS_FILE).exists() for folder in folders)
        store = None if kept else Store(where, create=False)
        rows, cells = results.load(store or where, (suite or None) if kept else None)
        return cls(where, suite, rows, cells, store)

    def keys(self, name: str, seeds: Sequence[int] = ()) -> list[str]:
        """Cells of the row `name`, all its seeds by default; or the cell whose key begins with `name`.

        UnknownName with the nearest row; BenchError for a seed that was not measured.
        """
        if KEY.fullmatch(name):
            found = [key for key in self.cells["key"].to_pylist() if key.startswith(name)]
            if len(found) != 1:
                raise BenchError(
                    f"{len(found)} cells in {self.where} have a key that begins with {name}; give all of it"
                )
            return found
        line = collect.collect(self.rows, self.cells, self.suite or None).find(name)
        unmeasured = sorted(set(seeds) - set(line.seeds)) if line.seeds != (-1,) else []
        if unmeasured:
            known = ", ".join(map(str, line.seeds))
            raise BenchError(f"row {name} has no seed {unmeasured[0]} in {self.where}; it has {known}")
        chosen = [s for s in line.seeds if not seeds or s == -1 or s in seeds]
        return [key for seed in chosen for key in sorted(line.keys[seed])]

    def record(self, key: str) -> Record:
        """The record of one cell; BenchError when there is none."""
        cells = Cells(self.cells.filter(pc.equal(self.cells["key"], key)))
        if key not in cells:
            raise BenchError(f"{self.where} has no cell {key}; `bench results validate` says what else is missing")
        rows = self.rows.filter(pc.equal(self.rows["key"], key)).drop_columns(["key"]).to_pylist()
        return replace(cells[key], rows=tuple(rows))


class Scratch(Store):
    """A store in a folder of its own that reads from `recorded` what it does not have, and never writes there."""

    def __init__(self, folder: str, recorded: Recorded) -> None:
        super().__init__(folder)
        self._recorded, self.url = recorded, shown(recorded.where)  # errors of reading name what is verified

    def _write(self, path: str, data: bytes) -> None:
        try:
            super()._write(path, data)
        except Unwritable as error:
            raise Unwritable(f"cannot write to the temporary folder {self._root}; free space or set TMPDIR") from error

    def read(self, key: str) -> Record:
        return super().read(key) if key in self.done() else self._recorded.record(key)

    def read_all(self, keys: Iterable[str] | None = None) -> Iterator[Record]:
        return (self.read(key) for key in sorted(self.done() if keys is None else keys))

    def read_vector(self, key: str) -> bytes:
        if super().has_vector(key) or self._recorded.store is None:
            return super().read_vector(key)
        return self._recorded.store.read_vector(key)

    def has_vector(self, key: str) -> bool:
        theirs = self._recorded.store
        return super().has_vector(key) or (theirs is not None and theirs.has_vector(key))

    def read_import(self, key: str) -> dict[str, Any]:
        return self._recorded.store.read_import(key) if self._recorded.store else super().read_import(key)


def verify(
    recorded: Recorded, keys: Sequence[str], *, experts: bool = False, how: How | None = None
) -> Iterator[Verdict]:
    """Run the cells `keys` again, with `experts` those they were made from first, and judge one after the other.

    With `experts`, merges are made from the experts that were trained here; without, from the recorded task vectors.
    BenchError: a vector, a data set or a weight file that is missing, or a cell that another version measured.
    """
    with TemporaryDirectory(prefix="bench-verify-") as folder:
        scratch = Scratch(folder, recorded)
        session = Session(replace(how or How(), save_minutes=0.0), scratch)
        cells = [_cell(recorded.record(key), session.registry) for key in keys]
        made_from = [_cell(recorded.record(need), session.registry) for cell in cells for need in cell.needs]
        needed = list({cell.key: cell for cell in made_from}.values())
        again = needed if experts else []
        _present(scratch, recorded, again, [*needed, *cells], cells)
        for cell in dict.fromkeys([*again, *cells]):
            found = session.execute(cell)
            scratch.write(found)
            yield judge(cell, recorded.record(cell.key), found)


def report(row: str, recorded: Recorded, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What `bench verify --json` prints: row, store, same, and for each cell the facts of its verdict."""
    same = all(verdict.same for verdict in verdicts)
    return {"row": row, "store": shown(recorded.where), "same": same, "cells": [v.facts() for v in verdicts]}


def judge(cell: Cell, recorded: Record, found: Record) -> Verdict:
    """Compare two records of one cell."""
    recorded, found = in_both(recorded, found)
    names = sorted({*recorded.metrics, *found.metrics})
    both = {n: (recorded.metrics.get(n), found.metrics.get(n)) for n in names}
    return Verdict(
        cell.key,
        cell.label,
        sum(row["total"] for row in recorded.rows if row["bits"]),
        found.provenance["seconds"],
        tuple(changes(recorded.rows, found.rows)),
        {n: (a, b) for n, (a, b) in both.items() if json.dumps(a, sort_keys=True) != json.dumps(b, sort_keys=True)},
        *({n: str(record.provenance.get(n, "")) for n in MADE_WITH} for record in (recorded, found)),
    )


def changes(recorded: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]]) -> Iterator[Change]:
    """What differs between the rows of two records, in the order of the first."""
    before, after = ({_place(row): row for row in rows} for rows in (recorded, found))
    for place in dict.fromkeys([*before, *after]):
        a, b = before.get(place), after.get(place)
        if a is None or b is None:
            row, said = (a, "only in the record") if a is not None else (b, "not in the record")
            assert row is not None
            where = row["task"], row["split"], row["scaling"]
            yield Change(
                *where, a["correct"] if a else 0, b["correct"] if b else 0, row["total"], f"{row['task']} {said}"
            )
        elif dict(a) != dict(b):
            yield Change(a["task"], a["split"], a["scaling"], a["correct"], b["correct"], *_images(a, b))


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two rows the same measurement; the chosen coefficient of a test row is part of what is measured."""
    scaling = row["scaling"] if row["split"] == "validation" else None
    named = ("kind", "finetuning", "operator", "tasks", "task", "split", "seed")
    return (*(row[name] for name in named), scaling)


def _images(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[int, str]:
    """How many images changed sides, and what else is different, if images alone do not say it."""
    if a["total"] != b["total"]:
        return abs(a["total"] - b["total"]), f"{a['task']} has {b['total']} images here, {a['total']} in the record"
    if a["bits"] and b["bits"]:
        images = int(np.sum(unpack_bits(a["bits"], a["total"]) != unpack_bits(b["bits"], b["total"])))
    else:
        images = abs(a["correct"] - b["correct"])
    other = [n for n in a if n not in ("correct", "bits") and a[n] != b[n]]
    if not other:
        return images, ""
    plural = "" if images == 1 else "s"
    unlike = ", ".join(f"{n} {a[n]} -> {b[n]}" for n in other)
    return images, f"{a['task']} {images} image{plural} ({a['correct']} -> {b['correct']} right; {unlike})"


def _cell(record: Record, registry: Registry) -> Cell:
    """The cell of a record, once what it computes is known to be here as it was measured."""
    cell = from_identity(dict(record.identity))
    if cell.key != record.key:
        raise BenchError(f"record {record.key} holds the identity of {cell.key}; delete it and run again")
    code.hold(registry, cell, record.provenance)
    return cell


def _present(
    scratch: Scratch, recorded: Recorded, again: Sequence[Cell], used: Sequence[Cell], cells: Sequence[Cell]
) -> None:
    """BenchError when a task vector, an image or a weight that will be needed is not there."""
    made_here = {cell.key for cell in (*again, *cells) if isinstance(cell, Finetune)}
    vectors = {c.key: c for c in used if isinstance(c, Expert) and c.key not in made_here}
    lost = [cell for key, cell in vectors.items() if not scratch.has_vector(key)]
    published = [cell for cell in lost if isinstance(cell, Imported)]
    if lost:
        first = (published or lost)[0]
        remedy = (
            "bring the published file in with `bench import`"
            if published
            else "give --experts to train them again in a scratch folder, or restore them by `bench run`"
        )
        what = f"{len(lost)} of {len(vectors)} task vectors are not in {recorded.where}, first that of {first.label}"
        raise BenchError(f"{what} ({first.key}); {remedy}")
    for name in sorted({cell.suite for cell in used}):
        preflight.require(suites.load(name), [cell for cell in used if cell.suite == name])
