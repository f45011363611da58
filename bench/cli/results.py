"""Verbs over results: compare, leaderboard, results. They read Parquet; neither torch nor ray."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.cli.options import STORE, JsonOption, StoreOption, print_json, print_table

OUT = "leaderboards"
OutOption = Annotated[str, typer.Option("--out", help="Folder of the leaderboards.")]
ReadmeOption = Annotated[
    list[str] | None, typer.Option("--readme", help="Page whose tables between markers are the build's; repeatable.")
]
FromOption = Annotated[
    str, typer.Option("--store", help="Store, or a folder of results; default: ./store, else ./leaderboards.")
]
ResultsSuite = Annotated[str, typer.Option("--suite", help="Which suite, where the results have several.")]

leaderboard = typer.Typer(help="Tables and pictures made from results.", rich_markup_mode=None)
results = typer.Typer(help="Join, compact and check results.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(compare)
    app.command()(plot)
    app.add_typer(leaderboard, name="leaderboard")
    app.add_typer(results, name="results")


def source(store: str, suite: str) -> str:
    """What to read: the store asked for, else ./store, else the committed leaderboards."""
    if store or Path(STORE, "bench-store.json").exists():
        return store or STORE
    usual = Path(OUT, suite or "mini8")
    return str(usual if usual.is_dir() else OUT) if Path(OUT).is_dir() else STORE


def compare(
    a: Annotated[str, typer.Argument(help="Row, e.g. att+orthoreg/ties; or, with --against, an operator.")],
    b: Annotated[str, typer.Argument(help="The row it is compared with, e.g. att/ties or zero-shot.")] = "",
    against: Annotated[str, typer.Option("--against", help="Compare an operator with this regulariser.")] = "",
    baseline: Annotated[
        str, typer.Option("--baseline", help="Operator the regulariser is used with.")
    ] = "task_arithmetic",
    suite: ResultsSuite = "",
    store: FromOption = "",
    json: JsonOption = False,
) -> None:
    """Compare two rows, or an operator with OrthoReg.

    Difference in accuracy, paired by image and seed, with an interval, p and a sentence of verdict. With --against, an
    operator next to a regulariser on every fine-tuning method.
    """
    from bench.cli import compared
    from bench.errors import BenchError
    from bench.store import results as stored
    from bench.tables import compare as comparing

    if bool(b) == bool(against):
        raise BenchError("name two rows (`bench compare A B`), or one operator and --against orthoreg")
    rows, cells = stored.load(source(store, suite), suite or None)
    if b:
        found = comparing.compare(rows, cells, a, b, suite=suite or None)
    else:
        found = comparing.compare_regularizer(rows, cells, a, against, baseline=baseline, suite=suite or None)
    if json:
        print_json(found)
        return
    import sys

    from rich.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(compared.render(found))


def plot(
    what: Annotated[str, typer.Argument(help="What to draw; a wrong name lists what there is.")],
    out: Annotated[str, typer.Option("--out", help="File to write; its ending chooses svg, pdf or png.")] = "",
    store: FromOption = "",
    suite: ResultsSuite = "",
) -> None:
    """Draw one view of the leaderboard page to a file."""
    from bench.boards import files as boards

    print(boards.plot(source(store, suite), suite or None, what, Path(out or f"{what}.svg")))


@leaderboard.command()
def build(
    store: StoreOption = STORE,
    suite: ResultsSuite = "",
    out: OutOption = OUT,
    readme: ReadmeOption = None,
    render: Annotated[bool, typer.Option("--render", help="Render again what is in --out; read no store.")] = False,
    json: JsonOption = False,
) -> None:
    """Write tables and pictures from a store."""
    from bench.boards import files as boards

    written = boards.build(None if render else store, suite or None, out, readme or None)
    if json:
        print_json({"written": [str(path) for path in written]})
        return
    page = Path(out, "README.md")
    if page.is_file():
        print(page.read_text(encoding="utf-8"))
    for path in written:
        print(path)


@leaderboard.command()
def check(out: OutOption = OUT, readme: ReadmeOption = None, json: JsonOption = False) -> int:
    """Does every table follow from the Parquet?

    Renders again and compares; exit code 1 if something differs.
    """
    from bench.boards import files as boards

    return _problems(boards.check(out, readme or None), json, f"{out}: every file follows from the Parquet")


@leaderboard.command()
def diff(
    before: Annotated[str, typer.Argument(help="Store or folder of results.")],
    after: Annotated[str, typer.Argument(help="The other one.")],
    suite: ResultsSuite = "",
    json: JsonOption = False,
) -> int:
    """Rows that differ between two results.

    In accuracy or rank; exit code 1 if there are any.
    """
    from bench.boards import files as boards

    found = boards.diff(before, after, suite or None)
    if json:
        print_json(found)
    elif found:
        sides = [
            (
                f["name"],
                f["board"],
                *(_accuracy(f[side]) for side in ("before", "after")),
                _accuracy({"accuracy": f["change"]}),
            )
            for f in found
        ]
        print_table(("row", "board", "before", "after", "change"), sides)
    else:
        print("no row differs")
    return 1 if found else 0


def _accuracy(side: dict[str, float | None] | None) -> str:
    value = (side or {}).get("accuracy")
    return "-" if value is None else f"{value:.2f}"


@leaderboard.command()
def export(
    form: Annotated[str, typer.Argument(help="md, csv, tex, json or html.")],
    store: FromOption = "",
    suite: ResultsSuite = "",
) -> None:
    """Print a leaderboard in another format."""
    from bench.boards import files as boards

    print(boards.export(source(store, suite), suite or None, form), end="")


@results.command()
def merge(
    other: Annotated[str, typer.Argument(help="The store that joins.")],
    store: StoreOption = STORE,
    json: JsonOption = False,
) -> None:
    """Join another store into --store.

    The same cell with other numbers is a conflict: it is named, and nothing is merged.
    """
    from bench.store import results as stored
    from bench.store.store import Store

    joined = stored.merge_stores(Store(store), Store(other, create=False))
    if json:
        print_json(joined)
    else:
        print(f"{joined['added']} cells added, {joined['already']} were there with the same numbers, "
              f"{joined['vectors']} task vectors copied")  # fmt: skip


@results.command()
def compact(store: StoreOption = STORE, json: JsonOption = False) -> None:
    """Make large stores quick to read.

    Copies all records into two files that readers open in place of thousands. The records stay the truth; run it again
    when many have been added.
    """
    from bench.store.store import Store

    found = Store(store, create=False).compact()
    if json:
        print_json(found)
        return
    young = f"; {found['young']} are a few seconds old and stay out of it" if found["young"] else ""
    print(f"{found['records']} records in one part of {found['bytes'] / 2**20:.3g} MB{young}")


@results.command()
def validate(store: FromOption = "", suite: ResultsSuite = "", json: JsonOption = False) -> int:
    """Look for contradictions in results.

    Impossible counts, bits that do not sum to them, missing upstream cells, duplicates; exit code 1 if there are any.
    """
    from bench.store import results as stored

    where = source(store, suite)
    return _problems(stored.validate(where), json, f"{where}: no contradictions")


def _problems(found: list[str], json: Literal[True, False], fine: str) -> int:
    if json:
        print_json({"problems": found})
    else:
        print("\n".join(found) if found else fine)
    return 1 if found else 0
