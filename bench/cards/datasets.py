"""Dataset cards: what a dataset is, as data. One TOML file each in `datasets/`, checked when read.

A card never changes meaning: its fingerprint is part of every key computed from it, so an edited card is another
dataset. Hashes say which rows (downloaded sets) or which pixels (generated sets) a split consists of; that is
what catches a leaked or re-shuffled test split.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import DataError, UnknownName, retold
from bench.ground import toml_json

Split = Literal["train", "validation", "test"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""Of a dataset or a suite, and of files that are kept for it."""
Part = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]
"""A name that becomes part of a path."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Card(BaseModel):
    """Base of everything read from TOML: immutable, and a field nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitCard(Card):
    """Size and fingerprint of one split. An empty `sha256` means "not yet verified by anybody"."""

    rows: Annotated[int, Field(gt=0)]
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""


class Procedural(Card):
    """Drawn by `bench.pixels.mini8` from a seed."""

    kind: Literal["procedural"]
    generator: str


class Download(Card):
    """What every source of downloaded images says besides where they are.

    `validation` names the source's own validation part; empty means that it is held out of the training part by the
    reference's rule (`bench.pixels.sources.validation_rows`). `labels` are the source's class names in the card's label
    order, needed only where they differ from the card's `classes`; `match = "position"` is for sources whose label
    numbers are a standard and whose names are prose. `sha256` holds the hash of row ids of each verified split: ids are
    the source's own, so the hash belongs to the source and recording one does not make the card another dataset.
    """

    kind: str
    validation: Annotated[str, Field(pattern=r"^(\w[\w.-]*)?$")] = ""
    labels: tuple[str, ...] = ()
    match: Literal["name", "position"] = "name"
    sha256: dict[Split, Sha256] = {}


class Hub(Download):
    """Parquet shards with image bytes in a Hugging Face dataset repository, at a pinned revision.

    `files` is the pattern of a part's shards, with `{part}` for its name; the default is `CONFIG/PART-*.parquet`, with
    `data` for the default config.
    """

    kind: Literal["hub"]
    repo: Annotated[str, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]
    revision: Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")] = ""
    config: Part = "default"
    files: Annotated[str, Field(pattern=r"^([\w{*-][\w{}*.-]*/)*[\w{}*.-]*$")] = ""
    image_column: str = "image"
    label_column: str = "label"
    train: Part = "train"
    test: Part = "test"


class Folder(Download):
    """A local folder in the layout of the task_vectors / TTA reference code."""

    kind: Literal["folder"]
    layout: str


class Torchvision(Download):
    """One of torchvision's own dataset classes."""

    kind: Literal["torchvision"]
    dataset: str


Source = Annotated[Procedural | Hub | Folder | Torchvision, Field(discriminator="kind")]


class RecipeCard(Card):
    """What a dataset's literature fixes about training on it."""

    epochs: Annotated[int, Field(gt=0)] | None = None


class DatasetCard(Card):
    """One dataset: its classes in label order, prompt templates, splits and where its images come from."""

    name: Name
    title: str
    licence: str
    citation: str
    homepage: str = ""
    notes: str = ""
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    templates: Annotated[tuple[str, ...], Field(min_length=1)]
    splits: dict[Split, SplitCard]
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    recipe: RecipeCard = RecipeCard()

    @model_validator(mode="after")
    def _check(self) -> "DatasetCard":
        problems = [f"template {t!r} has no {{}}" for t in self.templates if "{}" not in t]
        problems += [] if "test" in self.splits else ["no [splits.test]"]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def drawn(self) -> bool:
        """Whether the images are drawn from a seed instead of read from files."""
        return any(isinstance(source, Procedural) for source in self.sources)

    @property
    def fingerprint(self) -> str:
        """Hash of what the card means for a result: classes, templates, splits. Prose and sources stay out."""
        what = self.model_dump(include={"name", "classes", "templates", "splits"}, mode="json")
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def cards_folder() -> Path:
    """`datasets/` of the checkout, or the copy that an installed wheel carries."""
    here = Path(__file__).parents[1]
    inside = here / "datasets"
    return inside if inside.is_dir() else here.parent / "datasets"


def names() -> list[str]:
    """Names of all dataset cards, sorted."""
    return sorted(p.stem for p in cards_folder().glob("*.toml"))


@cache
def load(name: str) -> DatasetCard:
    """Read the card `name`; `UnknownName` when there is none, `DataError` naming every problem when it is wrong."""
    if name not in names():
        raise UnknownName("dataset", name, names())
    return read(cards_folder() / f"{name}.toml")


def read(path: Path) -> DatasetCard:
    """Read one card from a file. All problems come in one message."""
    with retold(DataError, f"{path.name}: not valid TOML ({{why}}); correct the card", OSError, ValueError):
        table = toml_json.read_toml(path)
    with retold(DataError, f"{path.name}: {{why}}; correct the card", ValidationError):
        card = DatasetCard.model_validate(table)
    if card.name != path.stem:
        raise DataError(f"{path.name}: the card calls itself {card.name!r}; file name and name must agree")
    return card
