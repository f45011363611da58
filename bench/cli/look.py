"""Verbs that say what there is: ls, show, cite. Everything comes from cards and the catalogue, without torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import IncludeOption, JsonOption, catalogue, names, print_json, print_table

if TYPE_CHECKING:
    from bench.catalogue import Catalogue

KINDS = ("methods", "operators", "regularizers", "modifiers", "datasets", "suites", "grids", "backbones")
Facts = dict[str, Any]


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

    Methods, operators, regularizers, modifiers, datasets, suites, grids or backbones; without a kind, all.
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


def everything(kind: str, known: "Catalogue") -> dict[str, Facts]:
    """All of one kind, by name, as plain facts with a `title`."""
    from bench import cards, grid, suites

    if kind == "methods":
        return known.finetuning
    if kind in ("operators", "regularizers", "modifiers"):
        return dict(getattr(known, kind))
    if kind == "datasets":
        return {name: cards.load(name).model_dump(mode="json") for name in cards.names()}
    if kind == "suites":
        return {name: suites.load(name).model_dump(mode="json") for name in suites.names()}
    if kind == "grids":
        return {name: {"title": g.title, **_grid(g)} for name, g in grid.GRIDS.items()}
    found = {name: suites.backbone(name).model_dump(mode="json") for name in suites.backbone_names()}
    return {
        name: {"title": f"{facts['architecture']}, weights {facts['weights']}", **facts}
        for name, facts in found.items()
    }


def _grid(chosen: Any) -> Facts:
    return {
        "suite": chosen.suite,
        "finetuning": list(chosen.finetuning),
        "operators": list(chosen.operators) or "all registered",
        "tasks": chosen.tasks or "all of the suite",
        "recipe": dict(chosen.recipe),
    }


def find(name: str, known: "Catalogue") -> list[tuple[str, Facts]]:
    """Everything called `name`, with its kind; `att+orthoreg` and `tsv_m~lines` give their parts."""
    from bench.errors import UnknownName

    shelves = {kind: everything(kind, known) for kind in KINDS}
    found = [(kind, shelf[name]) for kind, shelf in shelves.items() if name in shelf]
    if not found and "+" in name:
        method, regularizer = known.split_finetuning(name)
        found = [("methods", known.finetuning[method]), ("regularizers", known.regularizers[regularizer])]
    if not found and ("~" in name or "@" in name):
        base = name.replace("@", "~").split("~")
        known.operator(name)
        found = [("operators", known.operators[base[0]])]
        found += [("modifiers", known.modifiers[part]) for part in base[1:] if part in known.modifiers]
    if not found:
        raise UnknownName(
            "method, dataset, suite, grid or backbone", name, {n for shelf in shelves.values() for n in shelf}
        )
    return found


def show(name: str, include: IncludeOption = None, json: JsonOption = False) -> None:
    """Say everything about one name.

    A method, operator, regularizer, modifier, dataset, suite, grid or backbone.
    """
    found = find(name, catalogue(include))
    if json:
        print_json([{"kind": kind, **facts} for kind, facts in found])
        return
    for kind, facts in found:
        print(f"{facts.get('title', name)} ({kind})")
        _print_facts({k: v for k, v in facts.items() if k != "title"})


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
    return f"{value:g}" if isinstance(value, float) else str(value)


def cite(
    name: Annotated[list[str], typer.Argument(help="Operators, methods, regularizers or datasets.")],
    include: IncludeOption = None,
) -> None:
    """Print BibTeX for what you used; each entry once."""
    known = catalogue(include)
    entries: dict[str, None] = {}
    for asked in names(name):
        for _, facts in find(asked, known):
            entries[bibtex(asked, facts)] = None
    print("\n\n".join(entries))


def bibtex(name: str, facts: Facts) -> str:
    """The recorded entry; one made from the arXiv number where only that is recorded; a comment where nothing is."""
    recorded = str(facts.get("citation", "")).strip()
    if recorded.startswith("@"):
        return recorded
    paper = str(facts.get("paper", ""))
    if paper.startswith("arXiv:"):
        number = paper.removeprefix("arXiv:")
        return f"@misc{{arxiv{number}, title={{{facts['title']}}}, eprint={{{number}}}, archivePrefix={{arXiv}}}}"
    return f"% {name}: {recorded or paper or 'no citation recorded'}"
