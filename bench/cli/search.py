"""The verb that chooses a suite's hyper-parameters on validation."""

import sys
from typing import Annotated, Any

import typer

from bench.cli.groups import grouped
from bench.cli.options import (
    STORE,
    BackbonesOption,
    JsonOption,
    RecipeOption,
    StoreOption,
    names,
    print_json,
    print_table,
)
from bench.cli.run import execute
from bench.work.runtime import How


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(grouped(search))


def search(
    *,
    suite: Annotated[str, typer.Option("--suite", help="Suite whose declared values are tried.")] = "mini8",
    regularizer: Annotated[str, typer.Option("--regularizer", help="Whose strength is searched.")] = "orthoreg",
    backbones: BackbonesOption = None,
    recipe: RecipeOption = None,
    store: StoreOption = STORE,
    how: How,
    out: Annotated[str, typer.Option("--out", help="File to write; default: the suite's own.")] = "",
    json: JsonOption = False,
) -> int:
    """Choose a suite's learning rates and strength.

    On validation, by one criterion for all methods; every trial is kept with what it gave and what it cost. Values are
    the suite's for all of its backbones, whichever were searched.
    """
    from pathlib import Path

    from bench.cards import recipes, suites
    from bench.planning import search
    from bench.planning.grid import METHODS
    from bench.registry import catalogue
    from bench.store.store import Store

    chosen_suite, known, opened = suites.load(suite), catalogue.load(), Store(store)
    fixed, some = recipes.parse(recipe or ()), names(backbones)
    recipes.check_names(dict(fixed), known.owners(f"{method}+{regularizer}" for method in METHODS))
    own = known.options[regularizer].get("strength", ())
    outcomes: list[dict[str, Any]] = []
    chosen: dict[str, dict[str, float]] = {}
    for stage in (1, 2):
        if stage == 1:
            trials = search.learning_rates(chosen_suite, fixed)
        else:
            trials = search.strengths(chosen_suite, chosen, regularizer, own)
        plans = {trial: search.plan(chosen_suite, trial, known, backbones=some) for trial in trials}
        cells = list({cell.key: cell for plan in plans.values() for cell in plan}.values())
        state = execute(cells, opened, how)
        if state.failed or state.blocked:
            print("some trials failed; nothing is chosen, the same command tries them again", file=sys.stderr)
            return 1
        for trial, plan in plans.items():
            outcomes.append(search.outcome(trial, list(opened.read_all(cell.key for cell in plan))))
        chosen |= search.choose(outcomes[-len(trials) :])
    where = Path(out) if out else search.path(suite)
    search.write(suite, outcomes, chosen, where)
    if json:
        print_json({"trials": outcomes, "chosen": chosen, "file": str(where)})
        return 0
    columns = ("finetuning", "option", "value", "merged", "experts", "scaling", "cpu_seconds")
    print_table(columns, [[o[c] for c in columns] for o in outcomes])
    print(f"chosen values are in {where}")
    return 0
