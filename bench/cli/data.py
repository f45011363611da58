"""Verbs over datasets: data show, ls, check, fetch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import JsonOption, names, print_json, print_table

if TYPE_CHECKING:
    from bench.cards import DatasetCard

data = typer.Typer(help="Images: look at them, check them, bring them here.", rich_markup_mode=None)
NamesArgument = Annotated[list[str] | None, typer.Argument(help="Datasets or suites; default: all of mini8.")]
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
def check(name: NamesArgument = None, json: JsonOption = False) -> int:
    """Is this the data that the cards mean?

    Reads every row; exit code 1 if something is wrong or missing.
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
                said["shared"] = {}
            else:
                report = sources.check(card)
                said = {"rows": report.rows, "verified": list(report.verified), "shared": report.shared}
            found.append({"name": card.name, "problem": "", **said})
        except BenchError as error:
            found.append({"name": card.name, "problem": str(error), "rows": {}, "verified": [], "shared": {}})
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
    force: Annotated[bool, typer.Option("--force", help="Throw away what is cached and start again.")] = False,
) -> None:
    """Draw or download images before a run."""
    from bench import images, sources

    for card in _cards(name):
        if _drawn(card):
            for split in card.splits:
                if force:
                    images.forget(card, split, DRAWN)
                images.load(card, split, DRAWN)
            print(f"{card.name}: drawn, {images.folder_of(card, 'test', DRAWN).parent}")
        else:
            print(f"{card.name}: fetched from {sources.fetch(card)}, {sources.data_folder()}")
