"""The store: the only truth about what is done. A folder or any URL that pyarrow's filesystems read (S3, GCS, NFS).

    STORE/bench-store.json               format and version
    STORE/records/ab/abcdef....parquet   rows of one finished cell; identity, metrics, provenance in the footer
    STORE/failed/abcdef....json          the last failed attempt of a cell, with its traceback
    STORE/vectors/abcdef....safetensors  task vector of an expert cell
    STORE/imports/abcdef....json         a published expert: the cell that evaluates it, source, known defects
    STORE/inputs/NAME.txt                hash of downloaded rows or weights that results were computed from
    STORE/parts/...                      many records in two files, for quick reading (`bench.store.compacted`)
    STORE/runs/abcdef....plan.json       a run that is not over: who, with what command, which cells; its .beat.json is
                                         written every few seconds (`bench.driver.heartbeat`)
    STORE/checkpoints/abcdef.safetensors state of a fine-tune that is not over (`bench.work.resume`)

A file appears whole or not at all (`bench.store.files`). Two workers that finish the same cell write the same rows, so
the last one is harmless. Nothing locks. What is done is read from file *names*, which costs milliseconds.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from bench.errors import NoStore, StoreError, retold, shown
from bench.ground import toml_json
from bench.store import compacted
from bench.store.compacted import Part, Stamp
from bench.store.files import Folder
from bench.store.records import SCHEMA_VERSION, Record

Decoded = TypeVar("Decoded")
UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What reading a damaged file raises."""
MARKER = "bench-store.json"
FORMAT = {"format": "bench-store", "version": SCHEMA_VERSION}


class Store(Folder):
    """Records, failures and task vectors under one root.

    `Store(url)` opens an existing store and creates a missing one; `Store(url, create=False)` refuses to create, and
    `Store(url, create="later")` creates with the first thing that is put there: a refused request leaves none.
    """

    def __init__(self, url: str | Path, *, create: bool | Literal["later"] = True) -> None:
        text = f"store {shown(str(url))}: {{why}}; check the path and your access to it"
        self._missing = False
        with retold(StoreError, text, OSError, pa.ArrowInvalid):
            super().__init__(url)
            self._check_format(create)

    def _check_format(self, create: bool | Literal["later"]) -> None:
        if self._fs.get_file_info(self._full(MARKER)).type == pafs.FileType.NotFound:
            listing = self._fs.get_file_info(pafs.FileSelector(self._root, allow_not_found=True))
            if any(not Path(f.path).name.startswith(".") for f in listing):
                raise StoreError(f"{self.url} is neither empty nor a store; name another folder with --store")
            if not create:
                raise NoStore(f"no store at {self.url}; run `bench run` first or name one with --store")
            self._missing = True
            if create is True:
                self._create()
            return
        text = f"store {self.url}: {MARKER} is damaged ({{why}}); restore it as {json.dumps(FORMAT)}"
        with retold(StoreError, text, ValueError):
            about = toml_json.parse_object(self.get(MARKER), format=str, version=int)
        if about["format"] != FORMAT["format"] or about["version"] != SCHEMA_VERSION:
            raise StoreError(
                f"store {self.url} has version {about['version']!r}, this bench reads version {SCHEMA_VERSION}; "
                "use the bench that wrote it or name a new store with --store"
            )

    def put(self, path: str, data: bytes) -> None:
        """Write a file that appears whole or not at all, as `Folder.put`; the first one makes the store."""
        if self._missing:
            self._create()
        super().put(path, data)

    def _create(self) -> None:
        self._missing = False
        super().put(MARKER, json.dumps(FORMAT).encode())

    # --- records ---------------------------------------------------------------------------------------------------

    def done(self) -> set[str]:
        """Keys of all finished cells, from file names alone."""
        return set(self.named("records", ".parquet"))

    def has(self, key: str) -> bool:
        """Whether one cell is finished; for many, ask `done`."""
        return self._is_file(self._record_path(key))

    def write(self, record: Record) -> None:
        """Publish a finished cell. Its earlier failure, if any, is forgotten."""
        self.put(self._record_path(record.key), record.dump())
        if self.has_failure(record.key):
            self._remove(self._failure_path(record.key))

    def read(self, key: str) -> Record:
        """The record of one finished cell."""
        return self._read_record(key, Record.load)

    def read_all(self, keys: Iterable[str] | None = None) -> Iterator[Record]:
        """Records of `keys` (default: all that are done), in the order of their keys."""
        with ThreadPoolExecutor(8) as pool:
            yield from pool.map(self.read, sorted(self.done() if keys is None else keys))

    def tables(self, keys: Iterable[str] | None = None) -> tuple[pa.Table, pa.Table]:
        """`(rows, cells)` of `keys` (default: all that are done), sorted by key, ready for `bench.tables.collect`."""
        stamps = self._stamps()
        piece = self._gather(sorted(stamps if keys is None else keys), stamps)
        return piece.rows, piece.lines

    def compact(self, settled: float = compacted.SETTLED) -> dict[str, int]:
        """Copy all records that are older than `settled` seconds into one part, in place of the parts that are there.

        Records stay where they are, so nothing is lost when this is cut short or run twice at once. Returns how many
        records and bytes the part has, and how many records were too young for it.
        """
        before = [f"parts/{name}{end}" for end in compacted.ENDINGS for name in sorted(self.named("parts", end))]
        stamps = self._stamps()
        youngest = time.time_ns() - int(settled * 1e9)
        keys = sorted(key for key, stamp in stamps.items() if stamp.modified <= youngest)
        name, rows, cells = compacted.encode(self._gather(keys, stamps), stamps)
        self.put(f"parts/{name}{compacted.ROWS}", rows)
        self.put(f"parts/{name}{compacted.LINES}", cells)
        for old in before:
            if not old.startswith(f"parts/{name}."):
                self._remove(old)
        return {"records": len(keys), "bytes": len(rows) + len(cells), "young": len(stamps) - len(keys)}

    def _gather(self, wanted: list[str], stamps: Mapping[str, Stamp]) -> compacted.Piece:
        """The records of `wanted`, from parts where these are up to date and from their own files elsewhere."""
        pieces: list[compacted.Piece] = []
        opened = list(map(self._open_part, sorted(self._parts()))) if len(wanted) > compacted.PAYS else []

        def holder(key: str) -> Part | None:
            return next((p for p in opened if p is not None and key in stamps and (key, stamps[key]) in p), None)

        with ThreadPoolExecutor(8) as pool:
            for part, keys in itertools.groupby(wanted, holder):
                if part is not None:
                    pieces += part.pieces(keys)
                else:
                    pieces += pool.map(lambda key: self._read_record(key, compacted.of_record), list(keys))
        return compacted.joined(pieces)

    def _parts(self) -> set[str]:
        return set(self.named("parts", compacted.LINES))

    def _open_part(self, name: str) -> Part | None:
        """A part; None when a newer one has just replaced it."""
        remedy = "delete both its files, nothing is lost: the records are still there"
        with retold(StoreError, f"part {self.url}/parts/{name} cannot be read ({{why}}); {remedy}", *UNREADABLE):
            try:
                lines, rows = (self.get(f"parts/{name}{ending}") for ending in compacted.ENDINGS)
            except FileNotFoundError:
                return None
            return compacted.decode(name, rows, lines)

    def _stamps(self) -> dict[str, Stamp]:
        """Every record file and what a listing says of it."""
        return {key: Stamp(file.size, file.modified) for key, file in self.named("records", ".parquet").items()}

    def _read_record(self, key: str, decode: Callable[[str, bytes], Decoded]) -> Decoded:
        path = self._record_path(key)
        remedy = "delete it and run again to measure the cell anew"
        with retold(StoreError, f"record {self.url}/{path} cannot be read ({{why}}); {remedy}", *UNREADABLE):
            return decode(key, self.get(path))

    # --- failures --------------------------------------------------------------------------------------------------

    def failed(self) -> set[str]:
        """Keys of cells whose last attempt failed."""
        return set(self.named("failed", ".json"))

    def has_failure(self, key: str) -> bool:
        """Whether the last attempt at one cell failed; for many, ask `failed`."""
        return self._is_file(self._failure_path(key))

    def write_failure(self, key: str, failure: dict[str, Any]) -> None:
        """Keep the traceback of a failed attempt. The cell stays undone."""
        self._write_json(self._failure_path(key), failure)

    def read_failure(self, key: str) -> dict[str, Any]:
        """What `write_failure` kept."""
        return self._read_json(self._failure_path(key), "failure ", "delete it and run again", error=str)

    def forget_failures(self, keys: Iterable[str]) -> None:
        """Make failed cells pending again."""
        for key in keys:
            self._remove(self._failure_path(key))

    # --- task vectors ----------------------------------------------------------------------------------------------

    def write_vector(self, key: str, data: bytes) -> None:
        """Publish the safetensors bytes of a task vector."""
        self.put(self._vector_path(key), data)

    def read_vector(self, key: str) -> bytes:
        """The safetensors bytes of a task vector."""
        remedy = f"delete records/{key[:2]}/{key}.parquet and run again"
        with retold(StoreError, f"task vector {key} is missing from {self.url}; {remedy}", OSError):
            return self.get(self._vector_path(key))

    def has_vector(self, key: str) -> bool:
        """Whether a task vector is there."""
        return self._is_file(self._vector_path(key))

    # --- published experts ------------------------------------------------------------------------------------------

    def write_import(self, key: str, about: dict[str, Any]) -> None:
        """Publish what is known about an imported expert; its task vector must be there already."""
        self._write_json(self._checked("imports", f"{key}.json"), about)

    def imports(self) -> dict[str, dict[str, Any]]:
        """What is known about every imported expert, by key."""
        return {key: self.read_import(key) for key in sorted(self.named("imports", ".json"))}

    def read_import(self, key: str) -> dict[str, Any]:
        """What `write_import` kept."""
        return self._read_json(self._checked("imports", f"{key}.json"), "", "run `bench import` again", identity=dict)

    def agree(self, name: str, value: str, what: str = "another source of images, or other weights") -> None:
        """Keep what results are computed from, such as a hash of rows or weights; StoreError when another was kept."""
        path = f"inputs/{name}.txt"
        remedy = "delete it, and the next run writes what this machine has"
        with retold(StoreError, f"{self.url}/{path} cannot be read ({{why}}); {remedy}", OSError, ValueError):
            if not self._is_file(path):
                self.put(path, value.encode())
            recorded = self.get(path).decode()
        if recorded != value:
            raise StoreError(
                f"{name} on this machine ({value[:12]}) is not what the results in {self.url} were computed from "
                f"({recorded[:12]}): {what}; use the same, or a new store"
            )

    # --- where and how things are -----------------------------------------------------------------------------------

    def _record_path(self, key: str) -> str:
        return self._checked("records", key[:2], f"{key}.parquet")

    def _failure_path(self, key: str) -> str:
        return self._checked("failed", f"{key}.json")

    def _vector_path(self, key: str) -> str:
        return self._checked("vectors", f"{key}.safetensors")

    def _write_json(self, path: str, value: dict[str, Any]) -> None:
        self.put(path, json.dumps(value, sort_keys=True).encode())

    def _read_json(self, path: str, what: str, remedy: str, **kinds: Any) -> dict[str, Any]:
        with retold(StoreError, f"{what}{self.url}/{path} cannot be read ({{why}}); {remedy}", OSError, ValueError):
            return toml_json.parse_object(self.get(path), **kinds)
