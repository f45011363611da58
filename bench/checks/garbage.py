"""What a store holds and no record needs: what killed writers and trainers left behind. Neither torch nor ray.

A file is garbage only if it is older than a limit, because a vector is written before its record and a temporary before
its file: what is young may be the work of a running driver. Nothing that bench did not name is ever garbage.
"""

import re
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bench.driver import heartbeat
from bench.errors import BenchError
from bench.ground import atomic
from bench.store.files import StoredFile
from bench.store.store import Store
from bench.work import resume

HOURS = 24.0
"""Longer than an expert takes from its vector to its record, the evaluation in between included."""
NAMED = re.compile(r"([a-z]+)/([0-9a-f]+)\.([a-z.]+)")
"""Folder, key and ending of what bench keeps in a store besides records."""

TEMPORARY = "temporary of a writer that was killed"
VECTOR = "task vector of a cell without a record"
FAILURE = "failure of a cell that is done"
CHECKPOINT = "training state of a cell that is done"
RUN = "sign of a run that is over"
PART = "half of a part that is not used"


@dataclass(frozen=True)
class Garbage:
    """One file that no record needs."""

    file: StoredFile
    why: str
    folder: Path | None = None
    """Where it is, if not in the store: this node's training states of a store behind a URL."""

    @property
    def path(self) -> str:
        """For people."""
        return str(self.folder / self.file.path) if self.folder else self.file.path

    def remove(self, store: Store) -> bool:
        """Delete it, unless it changed since it was found; whether it is gone."""
        if self.folder is None:
            return store.delete(self.file)
        (self.folder / self.file.path).unlink(missing_ok=True)
        return True


@dataclass(frozen=True)
class Sweep:
    """All garbage of a store that is old enough, by path, and how many files are garbage by their kind but young."""

    old: tuple[Garbage, ...]
    young: int

    @property
    def size(self) -> int:
        """Bytes of what is old enough."""
        return sum(garbage.file.size for garbage in self.old)


def find(store: Store, *, hours: float = HOURS) -> Sweep:
    """Look for garbage; removes nothing. Nothing is old that is younger than a run which may be alive.

    BenchError for a negative limit.
    """
    if hours < 0:
        raise BenchError(f"--older-than is {hours:g}; give hours, 0 or more")
    alive = [r for r in heartbeat.runs(store) if r.state == "alive" or (r.state == "silent" and r.heard < HOURS * 3600)]
    begun = min((run.started for run in alive), default=time.time())
    limit = int(1e9 * min(time.time() - 3600 * hours, begun))
    everything = sorted(_garbage(store, {run.run for run in alive}), key=lambda garbage: garbage.path)
    old = tuple(garbage for garbage in everything if garbage.file.modified <= limit)
    return Sweep(old, len(everything) - len(old))


def _garbage(store: Store, alive: Container[str]) -> Iterator[Garbage]:
    files = store.files()  # listed before what is done is asked: a record that comes in between saves its vector
    done, paths = store.done(), {file.path for file in files}
    for file in files:
        if why := _why(file.path, done, paths, alive):
            yield Garbage(file, why)
    own = resume.folder(store.url)
    if "://" in store.url and own.is_dir():
        for path in own.iterdir():
            state = StoredFile(path.name, path.stat().st_size, path.stat().st_mtime_ns)
            if why := _why(f"checkpoints/{path.name}", done, (), alive):
                yield Garbage(state, why, own)


def _why(path: str, done: Container[str], paths: Container[str], alive: Container[str]) -> str:
    """Why the file at `path` is garbage; empty if it is not."""
    if atomic.NAMED.fullmatch(PurePosixPath(path).name):
        return TEMPORARY
    named = NAMED.fullmatch(path)
    if not named:
        return ""
    folder, key, ending = named.groups()
    match folder, ending:
        case "vectors", "safetensors":
            return "" if key in done or f"imports/{key}.json" in paths else VECTOR
        case "failed", "json":
            return FAILURE if key in done else ""
        case "checkpoints", "safetensors":
            return CHECKPOINT if key in done else ""
        case "runs", "plan.json" | "beat.json":
            return "" if key in alive else RUN
        case "parts", "rows.parquet":
            return "" if f"parts/{key}.cells.parquet" in paths else PART
    return ""
