"""Images in memory: uint8 pixels and labels of one split, from a content-addressed cache on disk.

A split is decoded or drawn once, stored as two arrays beside the card's fingerprint, memory-mapped ever after and
shared by all processes of a machine. Drawn pixels are checked against the card whenever a process opens a split;
`bench data check` does the same for downloaded ones, which are too many to hash every time.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.cards.datasets import DatasetCard, Procedural, Split
from bench.errors import DataError, retold
from bench.ground import atomic
from bench.pixels.sources import decode


def cache_folder() -> Path:
    """Where images, heads and downloads are kept: `$BENCH_CACHE`, else `~/.cache/bench`."""
    named = os.environ.get("BENCH_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bench"


@dataclass(frozen=True)
class Images:
    """One split: `pixels` uint8 [rows, 3, size, size], `labels` int64 [rows]."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def load(card: DatasetCard, split: Split, size: int) -> Images:
    """The images of a split, from the cache or the card's sources; DataError names what is wrong and the remedy."""
    if split not in card.splits:
        raise DataError(f"dataset {card.name} has no split {split!r}; it has {', '.join(card.splits)}")
    folder = folder_of(card, split, size)
    if not folder.is_dir():
        _make(card, split, size, folder)
    text = f"cached images {folder} are damaged; run `bench data fetch {card.name} --force`"
    with retold(DataError, text, OSError, ValueError, EOFError):
        pixels, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pixels", "labels"))
    images = Images(pixels, labels)
    _verify(card, split, size, images, folder)
    if not card.drawn:
        decode.identify(card, split, size, folder)
    return images


def ready(card: DatasetCard, split: Split, size: int) -> bool:
    """Whether a split needs no decoding; DataError when the cache holds it as made by another preprocessing."""
    folder = folder_of(card, split, size)
    if not card.drawn and folder.is_dir():
        decode.identify(card, split, size, folder)
    return card.drawn or folder.is_dir()


def verify(card: DatasetCard, split: Split, size: int) -> bool:
    """Whether a split of a downloaded data set is in the cache; DataError unless every byte is as it was written."""
    folder = folder_of(card, split, size)
    if folder.is_dir():
        decode.verify(card, split, size, folder)
    return folder.is_dir()


def row_hash(card: DatasetCard, split: Split, size: int) -> str:
    """Hash of the row ids of a decoded split: which images, in which order, with which labels."""
    return str(decode.identify(card, split, size, folder_of(card, split, size))["row_sha256"])


def folder_of(card: DatasetCard, split: Split, size: int) -> Path:
    """Cache folder of a split: named by content, so another card, size or preprocessing is another folder."""
    return cache_folder() / "images" / decode.folder_name(card, split, size)


def digest(images: Images) -> str:
    """sha256 over pixel and label bytes."""
    both = hashlib.sha256(np.ascontiguousarray(images.pixels).data)
    both.update(np.ascontiguousarray(images.labels, dtype="<i8").data)
    return both.hexdigest()


def _make(card: DatasetCard, split: Split, size: int, folder: Path) -> None:
    for source in card.sources:
        if isinstance(source, Procedural):
            from bench.pixels import mini8

            _publish(folder, Images(*mini8.render(source.generator, split, card.splits[split].rows)))
            return
    decode.build(card, split, size, folder.parent)


def _verify(card: DatasetCard, split: Split, size: int, images: Images, folder: Path) -> None:
    expected = card.splits[split]
    shape, last = (expected.rows, 3, size, size), len(card.classes) - 1
    where, redo = f"cached images {folder}", f"run `bench data fetch {card.name} --force`"
    if images.pixels.shape != shape or images.labels.shape != shape[:1]:
        raise DataError(f"{where} hold {images.pixels.shape}, the card says {shape}; {redo}")
    if images.labels.min() < 0 or images.labels.max() > last:
        raise DataError(f"{where}: a label is outside 0..{last}; {redo}")
    if card.drawn and expected.sha256 and digest(images) != expected.sha256:
        raise DataError(
            f"{where} are not the pixels that {card.name}.toml describes; {redo}, and if it persists install the "
            "versions in constraints.txt"
        )


def _publish(folder: Path, images: Images) -> None:
    """Write both arrays into a hidden folder and rename it: other processes see all of it or nothing."""
    part = atomic.hidden(folder)
    try:
        part.mkdir(parents=True)
        np.save(part / "pixels.npy", images.pixels)
        np.save(part / "labels.npy", images.labels.astype(np.int64))
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # not merely another process that was faster
                raise
    except OSError as error:
        raise DataError(
            f"cannot write {folder}: {error.strerror or 'the disk is full'}; free space or set BENCH_CACHE to another "
            "folder"  # numpy says of a full disk only how many bytes it wrote
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def forget(card: DatasetCard, split: Split, size: int) -> None:
    """Remove a split from the cache."""
    shutil.rmtree(folder_of(card, split, size), ignore_errors=True)


def normalise(pixels: Any, mean: Any, std: Any) -> Any:
    """uint8 torch tensor [n, 3, h, w] -> float32, `(x / 255 - mean) / std` by channel."""
    return pixels.float().div_(255.0).sub_(mean).div_(std)
