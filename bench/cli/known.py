"""Every kind of thing that has a name, and all names of a kind: what `bench ls` prints and a shell completes to."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.registry.catalogue import Catalogue

KINDS = ("methods", "operators", "regularizers", "modifiers", "spaces", "datasets", "suites", "grids", "backbones")
Facts = dict[str, Any]


def everything(kind: str, known: "Catalogue") -> dict[str, Facts]:
    """All of one kind, by name, as plain facts with a `title`."""
    from bench.cards import datasets, suites
    from bench.planning import grid

    if kind == "methods":
        return known.finetuning
    if kind in ("operators", "regularizers", "modifiers", "spaces"):
        return dict(getattr(known, kind))
    if kind == "datasets":
        return {name: datasets.load(name).model_dump(mode="json") for name in datasets.names()}
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
        "operators": "all compositions" if chosen.composed else list(chosen.operators) or "all registered",
        "experiments": list(chosen.experiments),
        "tasks": chosen.tasks or "all of the suite",
        "recipe": dict(chosen.recipe),
    }
