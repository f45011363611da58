"""What a source of images provides: parts that are opened before they are read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import DataError, retold

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Part:
    """One part of a source: `read(indices)` yields (name, image, source label) for ascending `indices`.

    `names` are class names in the source's label order, empty when it has none; `where` is for messages.
    """

    where: str
    size: int
    names: tuple[str, ...]
    read: Callable[[Sequence[int]], "Iterator[tuple[str, bytes | Image, int]]"]


class Reader(Protocol):
    """What the modules `hub`, `folder` and `vision` provide, each for sources of its own kind."""

    def missing(self, source: Any, part: str, root: Path) -> str:
        """What is not there, in a few words; empty when the part can be read."""

    def open_part(self, source: Any, part: str, root: Path) -> Part:
        """The part, not yet read; `DataError` when it is missing or damaged."""

    def fetch(self, source: Any, parts: Sequence[str], root: Path, revision: str) -> None:
        """Download what is missing."""


def read_files(
    files: Sequence[tuple[Path, int]], root: Path, indices: Sequence[int]
) -> Iterator[tuple[str, bytes, int]]:
    """(path below root, file content, label) of the files at `indices`."""
    for index in indices:
        path, label = files[index]
        with retold(DataError, f"cannot read image {path}: {{why}}", OSError):
            data = path.read_bytes()
        yield path.relative_to(root).as_posix(), data, label
