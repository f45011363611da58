"""A folder of files that appear whole or not at all: on a disk, on NFS, or behind any URL that pyarrow reads.

Local writes go to a dot-file, are fsynced and renamed; object stores publish an upload only when it completes. Nothing
locks. Names that begin with a dot are temporaries and never listed among files of a kind.
"""

import contextlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow.fs as pafs

from bench.errors import StoreError, Unwritable, first_line, retold, shown
from bench.ground import atomic

GOOGLE = ("gs://", "gcs://")
PATIENCE = 30
"""Seconds that Google's storage has for its first answer; a `retry_limit_seconds` in the URL is for every answer."""


class StoredFile(NamedTuple):
    """A file as a listing shows it."""

    path: str
    """Relative to the store."""
    size: int
    modified: int
    """Nanoseconds since 1970, by the clock of the disk or the server."""


class Folder:
    """Bytes by path under one root; all paths are relative to it."""

    def __init__(self, url: str | Path) -> None:
        self.url = shown(str(url))
        """For messages."""
        self._fs, self._root = _open(str(url))
        self.address = str(url) if "://" in str(url) else self._root
        """The same place for processes that run elsewhere: a full path, or the URL with its keys."""

    def files(self, folder: str = "") -> list[StoredFile]:
        """Every file of the store or of one of its folders, temporaries of local writers included, sorted by path."""
        selector = pafs.FileSelector(self._full(folder), recursive=True, allow_not_found=True)
        with retold(StoreError, f"store {self.url} cannot be listed ({{why}}); fix access to it", OSError):
            infos = [info for info in self._fs.get_file_info(selector) if info.type == pafs.FileType.File]
        return sorted(StoredFile(i.path[len(self._root) + 1 :], i.size, i.mtime_ns or 0) for i in infos)

    def named(self, folder: str, ending: str) -> dict[str, StoredFile]:
        """Files of a folder with this ending, by name without it; temporaries are never seen."""
        by_name = {PurePosixPath(file.path).name: file for file in self.files(folder)}
        return {n.removesuffix(ending): f for n, f in by_name.items() if n.endswith(ending) and not n.startswith(".")}

    def put(self, path: str, data: bytes) -> None:
        """Publish a file."""
        self._write(path, data)

    def get(self, path: str) -> bytes:
        """What is published at `path`; FileNotFoundError when nothing is."""
        with self._fs.open_input_stream(self._full(path)) as stream:
            return bytes(stream.read())

    def delete(self, file: StoredFile) -> bool:
        """Remove a file unless it was written again since it was listed; whether it was removed."""
        info = self._fs.get_file_info(self._full(file.path))
        if info.type != pafs.FileType.File or (info.size, info.mtime_ns or 0) != (file.size, file.modified):
            return False
        with retold(StoreError, f"cannot remove {file.path} from {self.url}: {{why}}; fix access", OSError):
            self._remove(file.path)
        return True

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/")

    def _checked(self, *names: str) -> str:
        """Path of a file. Keys also come from inside records, so a name that leads out of here is refused."""
        for name in names:
            if name.startswith(".") or not name or set(name) & set("/\\\0"):
                raise StoreError(f"{name!r} cannot be a file of store {self.url}; the record that names it is damaged")
        return "/".join(names)

    def _is_file(self, path: str) -> bool:
        return bool(self._fs.get_file_info(self._full(path)).type == pafs.FileType.File)

    def _remove(self, path: str) -> None:
        """Remove a file; another process may just have done so."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._full(path))

    def _write(self, path: str, data: bytes) -> None:
        full = self._full(path)
        try:
            if isinstance(self._fs, pafs.LocalFileSystem):
                atomic.write(Path(full), data, synced=True)
            else:
                with self._fs.open_output_stream(full) as stream:
                    stream.write(data)
        except OSError as error:  # with its number, which says what the words of a server may not
            raise Unwritable(
                f"cannot write to store {self.url}: {first_line(error)}; free space or fix access, then run again"
            ) from error


def _open(url: str) -> tuple[pafs.FileSystem, str]:
    if "://" not in url:
        return pafs.LocalFileSystem(), str(Path(url).expanduser().resolve())
    if url.startswith(GOOGLE) and "retry_limit_seconds=" not in url:
        _first_answer(url)
    fs, root = pafs.FileSystem.from_uri(url)
    return fs, root.rstrip("/")


def _first_answer(url: str) -> None:
    """StoreError unless Google's storage answers within `PATIENCE`; that there is no such file is an answer.

    Without it pyarrow goes on asking for 15 minutes where there is no network, no such address or no login.
    """
    fs, root = pafs.FileSystem.from_uri(f"{url}{'&' if '?' in url else '?'}retry_limit_seconds={PATIENCE}")
    try:
        fs.get_file_info(f"{root.rstrip('/')}/bench-store.json")  # a key may see files and not the bucket
    except OSError as error:
        text = first_line(error).partition(" error_info=")[0]
        reason = text.rpartition("with a last message of ")[2].partition(". ")[0]
        raise StoreError(
            f"store {shown(url)}: Google's storage cannot be read ({reason}); check the network and the login (`gcloud "
            "auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS)"
        ) from error
