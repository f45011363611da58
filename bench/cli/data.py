"""Verbs over datasets: data show, ls, check, fetch."""

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bench.cli.options import JsonOption, names, print_json, print_table

if TYPE_CHECKING:
    from bench.cards.datasets import DatasetCard, Split

data = typer.Typer(help="Images: look at them, check them, bring them here.", rich_markup_mode=None)
NamesArgument = Annotated[list[str] | None, typer.Argument(help="Datasets or suites; default: all of mini8.")]
SourceOption = Annotated[
    Literal["", "hub", "folder", "torchvision"],
    typer.Option("--source", metavar="hub|folder|torchvision", help="Only this source; default: the card's own order."),
]
DRAWN = 32
"""Side of generated images, in pixels."""


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(data, name="data")


def _cards(given: list[str] | None) -> "list[DatasetCard]":
    """Cards of datasets and of whole suites (with their control)."""
    from bench.cards import datasets, suites

    found: dict[str, DatasetCard] = {}
    for name in names(given) or ("mini8",):
        if name in suites.names():
            suite = suites.load(name)
            found |= {task: suite.card(task) for task in (*suite.tasks, suite.control)}
        else:
            found[name] = datasets.load(name)
    return list(found.values())


@data.command()
def ls(json: JsonOption = False) -> None:
    """List dataset cards and which images are here."""
    from bench.cards import datasets
    from bench.pixels import sources

    found: list[dict[str, Any]] = []
    for name in datasets.names():
        card = datasets.load(name)
        lacks = {} if card.drawn else sources.available(card)
        here = "drawn on first use" if card.drawn else "here" if "" in lacks.values() else "not here"
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
    if not all(card.drawn for card in chosen):
        raise BenchError(f"{name} is not drawn by bench; contact sheets exist for mini8 and its tasks")
    from bench.pixels.mini8.contact import contact_sheet

    path = Path(out or f"{name}.png")
    contact_sheet({card.name: list(card.classes) for card in chosen}).save(path)
    print(path)


@data.command()
def check(
    name: NamesArgument = None,
    source: SourceOption = "",
    pin: Annotated[
        bool, typer.Option("--pin", help="Record the hashes that are found; every later check compares with them.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Is this the data that the cards mean?

    Reads every row and every decoded image: counts, class names, labels, images that two splits share, and the sha256
    over row ids of every split, with how to record it where nobody has. Exit code 1 if something is wrong or missing.
    """
    from bench.errors import BenchError

    found: list[dict[str, Any]] = []
    for card in _cards(name):
        try:
            found.append({"name": card.name, "problem": "", **_checked(card, source, pin)})
        except BenchError as error:
            nothing: dict[str, Any] = {"rows": {}, "verified": [], "shared": {}, "sha256": {}}
            found.append({"name": card.name, "problem": str(error), **nothing})
    if json:
        print_json(found)
    else:
        print("\n".join(line for f in found for line in _lines(f)))
    return 1 if any(f["problem"] for f in found) else 0


def _checked(card: "DatasetCard", source: str, pin: bool) -> dict[str, Any]:
    from bench.pixels import images, sources

    if card.drawn:
        rows = {split: len(images.load(card, split, DRAWN)) for split in card.splits}
        hashes = {split: part.sha256 for split, part in card.splits.items()}
        return {"rows": rows, "verified": [s for s, h in hashes.items() if h], "shared": {}, "sha256": hashes}
    report = sources.check(card, kind=source)
    sizes = [size for size in sorted(_sizes()) if [s for s in card.splits if images.verify(card, s, size)]]
    said: dict[str, Any] = {"rows": report.rows, "verified": list(report.verified), "shared": report.shared}
    said |= {"sha256": report.sha256, "source": report.kind, "decoded": sizes}
    if pin and len(report.verified) < len(report.rows):
        said["pinned"] = str(sources.pin(card, report.kind, report.sha256))
    return said


def _lines(report: dict[str, Any]) -> list[str]:
    if report["problem"]:
        return [str(report["problem"])]
    sizes = ", ".join(f"{split} {rows:,}" for split, rows in report["rows"].items())
    pairs = [(pair, pair.partition("+")[2], count) for pair, count in report["shared"].items() if count]
    shared = ", ".join(
        f"{pair} share {count:,} images ({100 * count / report['rows'][later]:.0f} % of {later})"
        for pair, later, count in pairs
    )
    kind = f" from {report['source']}" if "source" in report else ""
    said = [f"{report['name']}: {sizes}{kind}{'; ' + shared if shared else ''}"]
    unknown = [split for split in report["rows"] if split not in report["verified"]]
    if unknown:
        table = ", ".join(f'{split} = "{digest}"' for split, digest in report["sha256"].items())
        said.append(
            f"  NOT VERIFIED: no row hash of {', '.join(unknown)} is recorded, so only counts, class names and labels "
            "were compared with the card; found:"
        )
        said.append(f"  sha256 = {{ {table} }}")
        said.append(
            f"  recorded in {report['pinned']}"
            if "pinned" in report
            else f'  compare them with a colleague\'s, then put this line below `kind = "{report["source"]}"` in '
            f"{report['name']}.toml, or run `bench data check {report['name']} --pin`"
        )
    return said


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

    A download or decoding that was interrupted goes on where it stopped; what fails for one data set does not stop the
    others.
    """
    from bench.errors import BenchError

    if revision and len(names(name)) != 1:
        raise BenchError("--revision belongs to one data set; name it")
    chosen, problems = _cards(name), []
    for card in chosen:
        try:
            _fetch(card, force, source, revision, decode)
        except BenchError as error:
            problems.append(str(error))
    if problems:
        count = f"{len(problems)} of {len(chosen)} data sets failed: " if len(chosen) > 1 else ""
        raise BenchError(count + "; ".join(problems))


def _fetch(card: "DatasetCard", force: bool, source: str, revision: str, decode: bool) -> None:
    from bench.driver.inputs import decoded
    from bench.driver.progress import Progress
    from bench.pixels import images, sources

    if card.drawn:
        for split in card.splits:
            if force:
                images.forget(card, split, DRAWN)
            images.load(card, split, DRAWN)
        print(f"{card.name}: drawn, {images.folder_of(card, 'test', DRAWN).parent}")
        return
    if force:
        for size, split in product(_sizes(), card.splits):
            images.forget(card, split, size)
    here = [kind for kind, lack in sources.available(card, kind=source).items() if not lack]
    if here and not revision:
        print(f"{card.name}: already here, source {here[0]}")
    else:
        print(f"{card.name}: fetched from {sources.fetch(card, kind=source, revision=revision)}")
    if decode:
        for size, split in product(sorted(_sizes(card.name)), _read(card)):
            print(f"{card.name} {split}: {decoded(card, split, size, Progress(), source)}")


def _read(card: "DatasetCard") -> "list[Split]":
    """The splits that suites read: nothing is trained on a data set that is only ever a control."""
    from bench.cards import suites

    known = list(map(suites.load, suites.names()))
    control = any(card.name == s.control for s in known) and not any(card.name in s.tasks for s in known)
    return [split for split in card.splits if split != "train" or not control]


def _sizes(task: str = "") -> set[int]:
    """Image sizes of the backbones of all suites, or of those that have a task."""
    from bench.cards import suites

    known = map(suites.load, suites.names())
    return {
        suites.backbone(name).image_size
        for suite in known
        if not task or task in (*suite.tasks, suite.control)
        for name in suite.backbones
    }
