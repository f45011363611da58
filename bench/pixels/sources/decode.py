"""Decode a split once: uint8 pixels at the backbone's size, in a folder that all processes of a machine map.

The pixels are what open_clip's evaluation transform makes of `image.convert("RGB")` before it divides by 255: resize
the shorter side with Pillow's bicubic filter, crop the centre. A cache folder's name holds the card's fingerprint, the
size and a hash of the preprocessing; `meta.json` says what it was made of. Rows are appended to plain files, so an
interrupted build resumes where it stopped and a full disk is an error instead of a bus error; a folder gets its name
when it is complete.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bench.cards.datasets import DatasetCard, Hub, Split
from bench.errors import DataError, retold
from bench.ground import toml_json
from bench.pixels.sources import hub
from bench.pixels.sources.reading import Row, choose, data_folder, recorded, row_hash, rows

if TYPE_CHECKING:
    from PIL.Image import Image

PREPROCESSING = "1: to RGB; shorter side to size (Pillow bicubic, longer side rounded down); crop centre; uint8 NCHW"
CHUNK = 64
FILES = ("pixels.npy", "labels.npy", "rows.txt", "meta.json")


def folder_name(card: DatasetCard, split: Split, size: int) -> str:
    """Name of the cache folder of a split at a size."""
    what = hashlib.sha256(PREPROCESSING.encode()).hexdigest()[:8]
    return f"{card.name}-{split}-{size}px-{card.fingerprint}-{what}"


def rgb(image: "bytes | Image", name: str) -> "Image":
    """Decode one image; `DataError` names it when it cannot be: an unreadable image is never skipped."""
    from PIL import Image as pillow

    try:
        if not isinstance(image, bytes):
            return image.convert("RGB")
        with pillow.open(io.BytesIO(image)) as opened:
            return opened.convert("RGB")
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        reason = re.sub(r" <[^>]*>", "", " ".join(str(error).split()))[:120]
        raise DataError(f"image {name} cannot be decoded ({reason}); replace the file") from error


def pixels(image: "Image", size: int) -> NDArray[np.uint8]:
    """uint8 [3, size, size] of an RGB image: shorter side to `size` (bicubic), centre crop."""
    from PIL.Image import Resampling

    width, height = image.size
    short = min(width, height)
    if short != size:
        width, height = (size if side == short else int(size * side / short) for side in (width, height))
        image = image.resize((width, height), Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    cut = image.crop((left, top, left + size, top + size))
    return np.ascontiguousarray(np.asarray(cut).transpose(2, 0, 1))


def build(
    card: DatasetCard,
    split: Split,
    size: int,
    cache: Path,
    *,
    root: Path | None = None,
    kind: str = "",
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The cache folder of a split, built when it is not there.

    Args:
        card, split, size: what to decode, and the side of the square images.
        cache: folder that holds the cache folders.
        root, kind: data folder and kind of source, as for `bench.pixels.sources.rows`.
        workers: decoding processes; 0 decodes in this one.
        progress: called with (rows done, rows in all).

    Raises:
        DataError: the source is not what the card says, an image cannot be decoded, the disk is full.
    """
    final = cache / folder_name(card, split, size)
    if final.is_dir():
        return final
    part = cache / f".{final.name}.part"
    remedy = "free space or set BENCH_CACHE to another folder, then run again: it resumes"
    with retold(DataError, f"cannot write the decoded images of {card.name} in {cache}: {{why}}; {remedy}", OSError):
        part.mkdir(parents=True, exist_ok=True)
        with alone(cache / f".{final.name}.lock"):
            if not final.is_dir():
                _fill(card, split, size, part, root or data_folder(), kind, workers, progress)
                part.rename(final)
    return final


def identify(card: DatasetCard, split: Split, size: int, folder: Path) -> dict[str, Any]:
    """What a cache folder says it was made of; DataError when that is another preprocessing, card or size."""
    redo = f"run `bench data fetch {card.name} --force --decode`"
    with retold(DataError, f"the cached images {folder} are damaged ({{why}}); {redo}", OSError, ValueError):
        meta = toml_json.parse_object((folder / "meta.json").read_bytes())
    for name, value in _identity(card, split, size).items():
        if meta.get(name) != value:
            raise DataError(f"the cached images {folder} were made with another {name}; {redo}")
    return meta


def verify(card: DatasetCard, split: Split, size: int, folder: Path) -> dict[str, Any]:
    """`identify`, and every byte of a cache folder against the hashes that were taken when it was written."""
    meta = identify(card, split, size, folder)
    redo = f"run `bench data fetch {card.name} --force --decode`"
    for name in FILES[:3]:
        with retold(DataError, f"the cached images {folder} are damaged ({{why}}); {redo}", OSError):
            whole = _sha256(folder / name) == meta.get("sha256", {}).get(name)
        if not whole:
            raise DataError(f"the cached images {folder} are damaged ({name} is not as it was written); {redo}")
    return meta


def _identity(card: DatasetCard, split: Split, size: int) -> dict[str, Any]:
    rows_ = card.splits[split].rows
    return {"preprocessing": PREPROCESSING, "card": card.fingerprint, "split": split, "size": size, "rows": rows_}


def _fill(
    card: DatasetCard,
    split: Split,
    size: int,
    part: Path,
    root: Path,
    kind: str,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    total = card.splits[split].rows
    source, _ = choose(card, root, kind, split)
    commit = hub.commit_of(source, root) if isinstance(source, Hub) else ""
    about = source.model_dump(mode="json", exclude={"labels", "sha256"}) | {"commit": commit}
    plan = _identity(card, split, size) | {"source": about}
    header = _header((total, 3, size, size))
    stride = 3 * size * size
    ready = _resume(part, plan, len(header), stride)
    need = (total - len(ready)) * stride
    if shutil.disk_usage(part).free < need:
        raise OSError(28, f"{need / 2**20:,.0f} MiB are needed")
    with (part / "pixels.npy").open("r+b") as out, (part / "rows.txt").open("a", encoding="utf-8") as names:
        out.write(header)
        out.seek(len(header) + len(ready) * stride)
        stream = rows(card, split, root, source.kind)
        labels = [_again(card, old, row) for old, row in zip(ready, islice(stream, len(ready)), strict=True)]
        for decoded, images in _decode(stream, size, workers, card.name):
            out.write(images.tobytes())
            out.flush()
            names.write("".join(row.id + "\n" for row in decoded))
            names.flush()
            labels += [row.label for row in decoded]
            if progress:
                progress(len(labels), total)
        os.fsync(out.fileno())
    if len(labels) != total:
        raise DataError(f"{card.name}: the {split} split ended after {len(labels)} of {total} rows")
    np.save(part / "labels.npy", np.asarray(labels, dtype=np.int64))
    ids = (part / "rows.txt").read_text(encoding="utf-8").splitlines()
    if recorded(card, source, root).get(split, row_hash(ids)) != row_hash(ids):
        raise DataError(
            f"{card.name}: the {split} rows of {source.kind} are not those that were recorded; `bench data check`"
        )
    plan |= {"row_sha256": row_hash(ids), "sha256": {name: _sha256(part / name) for name in FILES[:3]}}
    (part / "meta.json").write_text(json.dumps(plan, indent=1, sort_keys=True), encoding="utf-8")
    (part / "plan.json").unlink()


def _resume(part: Path, plan: dict[str, Any], header: int, stride: int) -> list[str]:
    """Row ids that an interrupted build has finished; starts over when it was another plan."""
    text = json.dumps(plan, sort_keys=True)
    record, names, images = part / "plan.json", part / "rows.txt", part / "pixels.npy"
    ids: list[str] = []
    if record.is_file() and names.is_file() and images.is_file() and record.read_text(encoding="utf-8") == text:
        written = names.read_text(encoding="utf-8")
        ids = written[: written.rfind("\n") + 1].splitlines()
        ids = ids[: max(0, (images.stat().st_size - header) // stride)]
    record.write_text(text, encoding="utf-8")
    names.write_text("".join(name + "\n" for name in ids), encoding="utf-8")
    images.touch()
    return ids


def _again(card: DatasetCard, old: str, row: Row) -> int:
    if old != row.id:
        raise DataError(
            f"{card.name}: the source changed during an interrupted build ({old} is now {row.id}); start over"
        )
    return row.label


def _decode(stream: Iterable[Row], size: int, workers: int, name: str) -> Iterator[tuple[list[Row], NDArray[np.uint8]]]:
    chunks = iter(lambda: list(islice(stream, CHUNK)), [])
    if workers < 1:
        for chunk in chunks:
            yield _chunk((chunk, size, name))
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_chunk, ((chunk, size, name) for chunk in chunks))


def _chunk(work: tuple[Sequence[Row], int, str]) -> tuple[list[Row], NDArray[np.uint8]]:
    chunk, size, name = work
    images = np.stack([pixels(rgb(row.image, f"{name} {row.id}"), size) for row in chunk])
    return [Row(row.id, b"", row.label) for row in chunk], images


def _header(shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    npy.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock file: one process makes something, others wait and then find it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
