"""Verbs that say what there is: ls, show, cite. Everything comes from cards and the catalogue, without torch."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.known import KINDS, Facts, everything
from bench.cli.options import IncludeOption, JsonOption, catalogue, names, offered, print_json, print_table

if TYPE_CHECKING:
    from bench.registry.catalogue import Catalogue

CITED = ("methods", "operators", "regularizers", "modifiers", "spaces", "datasets")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (ls, show, cite):
        app.command()(verb)


def ls(
    kind: Annotated[str, typer.Argument(help=" | ".join(KINDS))] = "",
    include: IncludeOption = None,
    json: JsonOption = False,
) -> None:
    """List what there is.

    Methods, operators, regularizers, modifiers, spaces, datasets, suites, grids or backbones; without a kind, all.
    """
    from bench.errors import UnknownName

    if kind and kind not in KINDS:
        raise UnknownName("kind of thing", kind, KINDS)
    known = catalogue(include)
    found = {k: everything(k, known) for k in ([kind] if kind else KINDS)}
    if json:
        print_json(found[kind] if kind else found)
        return
    for k, facts in found.items():
        if not kind:
            print(f"{k} ({len(facts)})")
        print_table(("name", "what"), [(n, f["title"]) for n, f in facts.items()], indent="" if kind else "  ")


def find(name: str, known: "Catalogue") -> list[tuple[str, Facts]]:
    """Everything called `name`, with its kind; `att+orthoreg` and `tsv_m~lines` give their parts."""
    from bench.errors import BenchError, UnknownName

    shelves = {kind: everything(kind, known) for kind in KINDS}
    found = [(kind, shelf[name]) for kind, shelf in shelves.items() if name in shelf]
    if not found and "+" in name and "/" not in name:
        method, regularizer = known.split_finetuning(name)
        found = [("methods", known.finetuning[method]), ("regularizers", known.regularizers[regularizer])]
    if not found and ("~" in name or "@" in name):
        _, *parts = re.split(r"[~@]", name)
        found = [("operators", known.operator(name))]
        found += [(k, shelves[k][part]) for part in parts for k in ("modifiers", "spaces") if part in shelves[k]]
    if not found and "/" in name:
        raise BenchError(f"{name} is a row: `bench show` explains its parts, `bench compare` says how well it does")
    if not found:
        raise UnknownName(
            "method, dataset, suite, grid or backbone", name, {n for shelf in shelves.values() for n in shelf}
        )
    return found


def show(
    name: Annotated[str, typer.Argument(autocompletion=offered())],
    include: IncludeOption = None,
    json: JsonOption = False,
) -> None:
    """Say everything about one name.

    A method, operator, regularizer, modifier, space, dataset, suite, grid or backbone.
    """
    found = find(name, catalogue(include))
    if json:
        print_json([{"kind": kind, **facts, **_entry(kind, facts)} for kind, facts in found])
        return
    for kind, facts in found:
        print(f"{facts.get('title', name)} ({kind})")
        entry = _entry(kind, facts)
        said = {
            k: v for k, v in facts.items() if k not in ("title", "grid", "choices", *(("citation",) if entry else ()))
        }
        _print_facts(said | _options(facts))
        for text in entry.values():
            print("\n".join(f"  {line}" for line in text.split("\n")))


def _entry(kind: str, facts: Facts) -> dict[str, str]:
    from bench.registry.bibliography import bibtex

    return {"bibtex": bibtex(facts)} if kind in CITED else {}


def _options(facts: Facts) -> Facts:
    """`density: 0.2 by default; searched: 0.1, 0.3`; words that an option takes and no search tries come last."""
    said = {}
    for option, (default, *searched) in facts.get("grid", {}).items():
        more = facts["choices"].get(option, [])
        said[f"option {option}"] = "; ".join(
            [f"{_text(default)} by default"]
            + ([f"searched: {_text(searched)}"] if searched else [])
            + ([f"also: {_text(more)}"] if more else [])
        )
    return said


def _print_facts(facts: Mapping[str, Any], indent: str = "  ") -> None:
    width = max((len(k) for k in facts), default=0)
    for key, value in facts.items():
        if value in ("", None, [], {}):
            continue
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            print(f"{indent}{key}")
            _print_facts(value, indent + "  ")
        else:
            print(f"{indent}{key.ljust(width)}  {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} = {_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_text(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def cite(
    name: Annotated[
        list[str],
        typer.Argument(help="Operators, methods, regularizers or datasets.", autocompletion=offered()),
    ],
    include: IncludeOption = None,
) -> None:
    """Print BibTeX for what you used; each entry once."""
    from bench.registry.bibliography import bibtex

    known = catalogue(include)
    entries: dict[str, None] = {}
    for asked in names(name):
        for _, facts in find(asked, known):
            entries[bibtex(facts)] = None
    print("\n\n".join(entries))
