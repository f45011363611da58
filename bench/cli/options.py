"""Options that several verbs share, and how verbs print."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from bench.errors import BenchError, shown
from bench.work.runtime import CHOOSABLE

if TYPE_CHECKING:
    from bench.kinds.imported import Imported
    from bench.registry.catalogue import Catalogue

STORE = "store"
ASKED: list[str] = []
"""The command line of this process after `bench`, as `bench.cli.app.call` got it; only to be shown."""


def offered(kind: str = "") -> Callable[[str], list[str]]:
    """What a shell completes to: the built-in names of a kind of `bench ls`, or of all; after a comma the next one."""

    def complete(incomplete: str) -> list[str]:
        from bench.cli.known import KINDS, everything
        from bench.registry.catalogue import load

        known = load()
        found = {name for k in ([kind] if kind else KINDS) for name in everything(k, known)}
        if kind in ("", "methods"):
            found |= {f"{method}+{regularizer}" for method in known.finetuning for regularizer in known.regularizers}
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in sorted(found) if name.startswith(last)]

    return complete


GridOption = Annotated[
    str, typer.Option("--grid", help="Which cells: `bench ls grids` lists them.", autocompletion=offered("grids"))
]
SuiteOption = Annotated[
    str,
    typer.Option(
        "--suite", help="What to measure on; default: the grid's own suite.", autocompletion=offered("suites")
    ),
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--methods",
        help="Fine-tuning methods, e.g. att,lora+orthoreg (replaces the grid's).",
        autocompletion=offered("methods"),
    ),
]
BackbonesOption = Annotated[
    list[str] | None,
    typer.Option("--backbones", help="Backbones (replaces the suite's).", autocompletion=offered("backbones")),
]
RecipeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        help="NAME=VALUE for all experts, of the training loop (clip=0.5) or an option (form=squared, lora.rank=16).",
    ),
]
RuntimeOption = Annotated[
    list[str] | None,
    typer.Option("--runtime", help=f"NAME=VALUE, of {', '.join(CHOOSABLE)} (docs/paper.md)."),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option("--include", help="Python file with a method of yours. It is executed, so read it first."),
]
StoreOption = Annotated[str, typer.Option("--store", help="Folder or URL (s3://...) of the store.")]
ANSWER: list[TextIO] = []
"""Where the answer of a verb with `--json` goes: the stdout of before, since all else is printed to stderr then."""


def _only_json(context: typer.Context, asked: bool) -> bool:
    """From here on a `print` in a user's operator, or in a library, does not get into the JSON."""
    if asked and not context.resilient_parsing:  # so a shell asks what could follow
        ANSWER[:] = [sys.stdout]
        sys.stdout = sys.stderr
    return asked


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.", callback=_only_json)
]


def imported(where: str) -> "list[Imported]":
    """The published experts of a store; those that another version of bench imported are left out."""
    from bench.kinds import from_identity
    from bench.kinds.imported import Imported
    from bench.store.store import Store

    found = []
    for key, kept in Store(where, create=False).imports().items():
        try:
            cell = from_identity(kept["identity"], key)
        except BenchError:
            continue
        if isinstance(cell, Imported):
            found.append(cell)
    return found


def catalogue(include: Iterable[str] | None) -> "Catalogue":
    """Facts on all methods, with entry points and `--include` files."""
    from bench.registry.plugins import with_plugins

    return with_plugins(absolute(include))


def absolute(include: Iterable[str] | None) -> tuple[str, ...]:
    """`--include` files by full path: workers may run in another folder."""
    return tuple(str(Path(path).resolve()) for path in include or ())


def names(given: Iterable[str] | None) -> tuple[str, ...]:
    """`["a,b", "c"]` -> ("a", "b", "c"), each once. BenchError for a text without a name, which would stand for all."""
    for text in given or ():
        if not text.replace(",", "").strip():
            raise BenchError(f"{text!r} names nothing; give names with commas between them, or leave the option out")
    return tuple(dict.fromkeys(name for text in given or () for part in text.split(",") if (name := part.strip())))


def command() -> str:
    """The command line of this process, ready to be repeated, without the keys of a store's URL."""
    return shlex.join(["bench", *map(shown, ASKED)])


def print_json(value: Any) -> None:
    """The only thing that a verb with `--json` writes to stdout."""
    out = ANSWER[0] if ANSWER else sys.stdout
    plain = (out.encoding or "utf-8").lower().replace("-", "") != "utf8"
    print(json.dumps(value, indent=1, ensure_ascii=plain), file=out)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, indent: str = "") -> None:
    """Columns aligned by spaces, easy to read and to cut; in a terminal, lines end where it ends."""
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *lines]) for i in range(len(header))]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    for line in [list(header), *lines]:
        text = indent + "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip()
        print(text if len(text) <= width else text[: width - 1] + "…")
