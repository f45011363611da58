"""Files that appear whole or not at all: written under a hidden name beside their place, then renamed into it."""

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

NAMED = re.compile(r"\..+\.[0-9]+\.[0-9a-f]{8}")
"""What the hidden names look like; `bench results gc` finds those that killed writers left in a store."""


def hidden(path: Path) -> Path:
    """A name beside `path` that no other writer has and no listing shows."""
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")


@contextlib.contextmanager
def whole(path: Path, *, synced: bool = False) -> Iterator[Path]:
    """Where to write what will be the file `path`: it takes its place at the end, and is removed if anything fails.

    With `synced` only after its bytes are on the disk. OSError for a device or a pipe: a rename by root would put a
    file where `/dev/null` was.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FileExistsError(errno.EEXIST, "it is a device or a pipe, not a file", str(path))
    scratch = hidden(path)
    try:
        yield scratch
        if synced:
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def write(path: Path, data: bytes, *, synced: bool = False) -> None:
    """A whole file of these bytes, its folder made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, synced=synced) as part:
        part.write_bytes(data)
