"""Verbs over datasets: data show, ls, check, fetch."""

import os
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bench.cli.options import JsonOption, names, print_json, print_table

if TYPE_CHECKING:
    from bench.cards import DatasetCard, Split

data = typer.Typer(help="Images: look at them, check them, bring them here.", rich_markup_mode=None)
NamesArgument = Annotated[list[str] | None, typer.Argument(help="Datasets or suites; default: all of mini8.")]
SourceOption = Annotated[
    Literal["", "hub", "folder", "torchvision"],
    typer.Option("--source", help="Only this source; default: the card's own order."),
]
DRAWN = 32
"""Side of generated images, in pixels."""


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(data, name="data")


def _cards(given: list[str] | None) -> "list[DatasetCard]":
    """Cards of datasets and of whole suites (with their control)."""
    from bench import cards, suites

    found: dict[str, DatasetCard] = {}
    for name in names(given) or ("mini8",):
        if name in suites.names():
            suite = suites.load(name)
            found |= {task: suite.card(task) for task in (*suite.tasks, suite.control)}
        else:
            found[name] = cards.load(name)
    return list(found.values())


def _drawn(card: "DatasetCard") -> bool:
    return any(source.kind == "procedural" for source in card.sources)


@data.command()
def ls(json: JsonOption = False) -> None:
    """List dataset cards and which images are here."""
    from bench import cards, sources

    found: list[dict[str, Any]] = []
    for name in cards.names():
        card = cards.load(name)
        lacks = {} if _drawn(card) else sources.available(card)
        here = "drawn on first use" if _drawn(card) else "here" if "" in lacks.values() else "not here"
        sizes = {split: part.rows for split, part in card.splits.items()}
        found.append({"name": name, "title": card.title, "classes": len(card.classes), "rows": sizes, "images": here})
    if json:
        print_json(found)
        return
    rows = [(f["name"], f["classes"], "/".join(map(str, f["rows"].values())), f["images"], f["title"]) for f in found]
    print_table(("name", "classes", "rows", "images", "what"), rows)


@data.command()
def show(
    name: Annotated[str, typer.Argument(help="A suite or a dataset that is drawn here.")] = "mini8",
    out: Annotated[str, typer.Option("--out", help="PNG to write; default: NAME.png here.")] = "",
) -> None:
    """Write a contact sheet to look at.

    Some images of every class, as a PNG.
    """
    from bench.errors import BenchError

    chosen = _cards([name])
    if not all(map(_drawn, chosen)):
        raise BenchError(f"{name} is not drawn by bench; contact sheets exist for mini8 and its tasks")
    from bench.mini8.contact import contact_sheet

    path = Path(out or f"{name}.png")
    contact_sheet({card.name: list(card.classes) for card in chosen}).save(path)
    print(path)


@data.command()
def check(name: NamesArgument = None, source: SourceOption = "", json: JsonOption = False) -> int:
    """Is this the data that the cards mean?

    Reads every row; exit code 1 if something is wrong or missing. With --json also the sha256 over row ids of every
    split, to be recorded in the card's source.
    """
    from bench import images, sources
    from bench.errors import BenchError

    found: list[dict[str, Any]] = []
    for card in _cards(name):
        said: dict[str, Any] = {}
        try:
            if _drawn(card):
                said["rows"] = {split: len(images.load(card, split, DRAWN)) for split in card.splits}
                said["verified"] = [split for split, part in card.splits.items() if part.sha256]
                said |= {"shared": {}, "sha256": {split: part.sha256 for split, part in card.splits.items()}}
            else:
                report = sources.check(card, kind=source)
                said = {"rows": report.rows, "verified": list(report.verified), "shared": report.shared}
                said |= {"sha256": report.sha256, "source": report.kind}
            found.append({"name": card.name, "problem": "", **said})
        except BenchError as error:
            nothing: dict[str, Any] = {"rows": {}, "verified": [], "shared": {}, "sha256": {}}
            found.append({"name": card.name, "problem": str(error), **nothing})
    if json:
        print_json(found)
    else:
        print("\n".join(_line(f) for f in found))
    return 1 if any(f["problem"] for f in found) else 0


def _line(report: dict[str, Any]) -> str:
    if report["problem"]:
        return str(report["problem"])
    sizes = ", ".join(
        f"{split} {rows}{'' if split in report['verified'] else ' (no hash recorded)'}"
        for split, rows in report["rows"].items()
    )
    shared = ", ".join(f"{pair} share {count} images" for pair, count in report["shared"].items() if count)
    return f"{report['name']}: {sizes}{'; ' + shared if shared else ''}"


@data.command()
def fetch(
    name: NamesArgument = None,
    force: Annotated[bool, typer.Option("--force", help="Throw away decoded images and start again.")] = False,
    source: SourceOption = "",
    revision: Annotated[
        str, typer.Option("--revision", help="Commit of the hub repository, where the card pins none; it is recorded.")
    ] = "",
    decode: Annotated[bool, typer.Option("--decode", help="Also decode them for the suites' backbones, once.")] = False,
) -> None:
    """Draw or download images before a run.

    A download or decoding that was interrupted goes on where it stopped.
    """
    from bench import images, sources
    from bench.errors import BenchError

    if revision and len(names(name)) != 1:
        raise BenchError("--revision belongs to one data set; name it")

    for card in _cards(name):
        if _drawn(card):
            for split in card.splits:
                if force:
                    images.forget(card, split, DRAWN)
                images.load(card, split, DRAWN)
            print(f"{card.name}: drawn, {images.folder_of(card, 'test', DRAWN).parent}")
        else:
            if force:
                for size, split in product(_sizes(), card.splits):
                    images.forget(card, split, size)
            here = [kind for kind, lack in sources.available(card, kind=source).items() if not lack]
            if here and not revision:
                print(f"{card.name}: already here, source {here[0]}")
            else:
                print(f"{card.name}: fetched from {sources.fetch(card, kind=source, revision=revision)}")
            if decode:
                for size, split in product(sorted(_sizes(card.name)), card.splits):
                    print(f"{card.name} {split}: {_decode(card, split, size, source)}")


def _sizes(task: str = "") -> set[int]:
    """Image sizes of the backbones of all suites, or of those that have a task."""
    from bench import suites

    known = map(suites.load, suites.names())
    return {
        suites.backbone(name).image_size
        for suite in known
        if not task or task in (*suite.tasks, suite.control)
        for name in suite.backbones
    }


def _decode(card: "DatasetCard", split: "Split", size: int, source: str) -> Path:
    """Decode a split with all cores, with a bar on a terminal; the cache folder."""
    from rich.console import Console
    from rich.progress import Progress

    from bench import images

    cores = os.cpu_count() or 1
    with Progress(console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(f"{card.name} {split}", total=card.splits[split].rows)
        return images.prepare(
            card, split, size, kind=source, workers=cores if cores > 1 else 0,
            progress=lambda done, rows: bar.update(shown, completed=done, total=rows),
        )  # fmt: skip
