"""Rows of a card's split from one of its sources, with every check that does not need the pixels."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.cards.datasets import DatasetCard, Download, Hub, Split
from bench.errors import DataError, UnknownName
from bench.pixels.sources import folder, hub, pins, vision
from bench.pixels.sources.holdout import training_rows, validation_rows
from bench.pixels.sources.labels import label_map
from bench.pixels.sources.part import Part, Reader

if TYPE_CHECKING:
    from PIL.Image import Image


READERS: dict[str, Reader] = {"hub": hub, "folder": folder, "torchvision": vision}
"""By kind of source."""


class Row(NamedTuple):
    """One image: `id` as in the module's docstring, encoded bytes or a PIL image, and the card's label."""

    id: str
    image: "bytes | Image"
    label: int


def data_folder() -> Path:
    """Local data: `$BENCH_DATA`, else `~/data` as in the reference code."""
    return Path(os.environ.get("BENCH_DATA") or Path.home() / "data")


def rows(card: DatasetCard, split: Split, root: Path | None = None, kind: str = "") -> Iterator[Row]:
    """All rows of a split in the source's order.

    Args:
        card: the data set.
        split: "train" and "validation" share the source's training part unless the source has its own validation.
        root: data folder, by default `data_folder()`.
        kind: "hub", "folder" or "torchvision"; empty takes the card's first source that is complete.

    Raises:
        DataError: no source is there, or it is not what the card says (rows, classes, labels, unreadable file).
    """
    root = root or data_folder()
    source, reader = choose(card, root, kind, split)
    part, indices = part_of(card, split, source, reader, root)
    number = label_map(card, source, part.names, part.where)
    for name, image, label in part.read(indices):
        if not 0 <= label < len(number):
            raise DataError(f"{card.name}: {part.where}, row {name}: label {label} is outside 0..{len(number) - 1}")
        yield Row(f"{name}:{number[label]}:{content(image)}", image, number[label])


def content(image: "bytes | Image") -> str:
    """First 16 hex digits of the sha256 of the encoded bytes, or of size and pixels where a source has no file."""
    data = image if isinstance(image, bytes) else repr((image.mode, image.size)).encode() + image.tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def row_hash(ids: Iterable[str]) -> str:
    """sha256 over row ids, in order, one a line."""
    digest = hashlib.sha256()
    for name in ids:
        digest.update(name.encode() + b"\n")
    return digest.hexdigest()


def part_of(card: DatasetCard, split: Split, source: Download, reader: Reader, root: Path) -> tuple[Part, list[int]]:
    """The source's part that a split lies in, and the split's row indices in it, ascending."""
    part = reader.open_part(source, part_name(source, split), root)
    shares = split != "test" and not source.validation
    together: tuple[Split, ...] = ("train", "validation") if shares else (split,)
    expected = sum(card.splits[s].rows for s in together if s in card.splits)
    if part.size != expected:
        raise DataError(
            f"{card.name}: {part.where} has {part.size:,} rows, the card says {expected:,}: another version of the data"
        )
    if not shares:
        return part, list(range(part.size))
    return part, sorted((validation_rows if split == "validation" else training_rows)(part.size))


def part_name(source: Download, split: Split) -> str:
    """What the source calls the part in which a split lies."""
    if split == "validation" and source.validation:
        return source.validation
    if isinstance(source, Hub):
        return source.test if split == "test" else source.train
    return "test" if split == "test" else "train"


def parts(card: DatasetCard, source: Download, split: Split | None = None) -> list[str]:
    """Names of all parts of a source that one split, or all of the card's, need."""
    return list(dict.fromkeys(part_name(source, s) for s in card.splits if split in (None, s)))


def sources(card: DatasetCard, kind: str = "") -> list[Download]:
    """The card's downloadable sources: of one kind when asked, else all, those first that `$BENCH_SOURCES` names."""
    first = [name.strip() for name in os.environ.get("BENCH_SOURCES", "").split(",") if name.strip()]
    for name in first:
        if name not in READERS:
            raise UnknownName("source of images (BENCH_SOURCES)", name, READERS)
    asked: list[Download] = [s for s in card.sources if isinstance(s, Download) and kind in ("", s.kind)]
    if not asked:
        kinds = ", ".join(s.kind for s in card.sources)
        raise DataError(f"{card.name} has no source {kind or 'to download'!r}; it has {kinds}")
    return sorted(asked, key=lambda s: first.index(s.kind) if s.kind in first else len(first))


def available(
    card: DatasetCard, root: Path | None = None, kind: str = "", split: Split | None = None
) -> dict[str, str]:
    """What each source lacks on this machine for one split or all, by kind; an empty text means that it can be read."""
    root = root or data_folder()
    lacks = {}
    for source in sources(card, kind):
        by_part = (READERS[source.kind].missing(source, part, root) for part in parts(card, source, split))
        lacks[source.kind] = next(filter(None, by_part), "")
    return lacks


def choose(card: DatasetCard, root: Path, kind: str = "", split: Split | None = None) -> tuple[Download, Reader]:
    """The first source that has the split (or all of them); `DataError` lists what each of them lacks."""
    if split is not None and split not in card.splits:
        raise DataError(f"{card.name} has no split {split!r}; it has {', '.join(card.splits)}")
    lacks = available(card, root, kind, split)
    for source in sources(card, kind):
        if not lacks[source.kind]:
            return source, READERS[source.kind]
    listed = "; ".join(f"{name}: {text}" for name, text in lacks.items())
    raise DataError(f"{card.name} is not on this machine ({listed}); run `bench data fetch {card.name}`")


def fetch(card: DatasetCard, root: Path | None = None, kind: str = "", revision: str = "") -> str:
    """Download a card's images from its first source that can be downloaded; returns the kind of source.

    `revision` overrides the card's pin of a hub repository and is recorded in `<root>/pins.json`; a hub repository
    that neither pins is refused, because nothing would say later which images were measured.
    """
    root = root or data_folder()
    problems = []
    for source in sources(card, kind):
        try:
            READERS[source.kind].fetch(source, parts(card, source), root, revision)
        except DataError as error:
            problems.append(f"{source.kind}: {error}")
        else:
            return source.kind
    raise DataError(f"{card.name} could not be fetched ({'; '.join(problems)})")


def recorded(card: DatasetCard, source: Download, root: Path) -> dict[str, str]:
    """Hashes of row ids by split: the card's, and where it has none those that `bench data check --pin` kept here."""
    own = pins.hashes(root).get(f"{card.name}/{source.kind}", {})
    return own | {str(split): digest for split, digest in source.sha256.items()}


def pin(card: DatasetCard, kind: str, hashes: dict[str, str]) -> Path:
    """Keep hashes of row ids for one source of a card, to be compared by every later check and decoding; the file."""
    root = data_folder()
    return pins.write(root / pins.HASHES, pins.hashes(root) | {f"{card.name}/{kind}": hashes})


def unpinned(card: DatasetCard, root: Path | None = None) -> list[str]:
    """Hub repositories of a card for which neither the card nor `pins.json` names a commit."""
    root = root or data_folder()
    return [s.repo for s in card.sources if isinstance(s, Hub) and not hub.commit_of(s, root)]
