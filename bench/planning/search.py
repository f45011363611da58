"""Choosing a suite's hyper-parameters: declared values, one criterion for all methods, validation only.

    stage 1   every plain fine-tuning method: the learning rate
    stage 2   every regularised one, at its method's learning rate: the strength

A trial trains the suite's experts at one value and merges them with task arithmetic at its best coefficient; the value
with the highest mean validation accuracy of the *merged* model wins, ties go to the smaller value. Every trial, its
outcome and its price are kept in `bench/assets/suites/SUITE.search.json`, from where recipes take the chosen values.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.cards import recipes, suites
from bench.cards.suites import Suite
from bench.errors import BenchError
from bench.ground import metrics
from bench.kinds.addition import Addition
from bench.kinds.base import Cell
from bench.kinds.expert import Finetune
from bench.planning import grid
from bench.planning.grid import METHODS, Grid
from bench.registry.catalogue import Catalogue
from bench.store.records import Record
from bench.work.coefficients import WHOLE

CRITERION = "task_arithmetic"


@dataclass(frozen=True)
class Trial:
    """One value of one hyper-parameter for one fine-tuning method."""

    finetuning: str
    option: str
    value: float
    fixed: tuple[tuple[str, Any], ...] = ()


def learning_rates(suite: Suite, fixed: tuple[tuple[str, Any], ...] = ()) -> list[Trial]:
    """Stage 1: the suite's declared learning rates for every plain method; `fixed` are other values of the recipe."""
    return [Trial(method, "lr", value, fixed) for method in METHODS for value in declared(suite, "lr")]


def strengths(
    suite: Suite, chosen: dict[str, dict[str, Any]], regularizer: str, own: Sequence[float] = ()
) -> list[Trial]:
    """Stage 2: the strengths that a regulariser declares as its `own`, or else the suite for all regularisers, each
    method at the learning rate chosen for it without one."""
    return [
        Trial(f"{method}+{regularizer}", "strength", value, tuple(chosen[method].items()))
        for method in METHODS
        for value in sorted(own) or declared(suite, "strength")
    ]


def declared(suite: Suite, option: str) -> tuple[float, ...]:
    """The values that the suite says are searched, smallest first."""
    if option not in suite.search:
        raise BenchError(
            f"suite {suite.name} declares no search of {option!r}; add it to [search] in {suite.name}.toml"
        )
    return tuple(sorted(suite.search[option]))


def plan(suite: Suite, trial: Trial, catalogue: Catalogue, seed: int = 0, backbones: Iterable[str] = ()) -> list[Cell]:
    """The experts of a trial and their task-arithmetic merge, which comes last."""
    owners = catalogue.owners([trial.finetuning])
    fixed = [(name, value) for name, value in trial.fixed if recipes.known(name, owners)]
    overrides = (*fixed, (trial.option, trial.value))
    chosen = Grid("search", (trial.finetuning,), (CRITERION,), suite=suite.name, recipe=overrides, sweep=WHOLE)
    return grid.plan(suite, chosen, catalogue, seeds=(seed,), backbones=backbones)


def outcome(trial: Trial, records: Sequence[Record]) -> dict[str, Any]:
    """What a trial gave, on validation: accuracy of the merge and of the experts, coefficient, CPU seconds."""
    merged = [
        r
        for record in records
        for r in record.rows
        if r["kind"] == Addition.kind and r["split"] == "validation" and r["selected"]
    ]
    experts = [
        r for record in records for r in record.rows if r["kind"] == Finetune.kind and r["split"] == "validation"
    ]

    def mean(rows: list[Any]) -> float:
        return round(fmean(metrics.accuracy(r["correct"], r["total"]) for r in rows), 6)

    return {
        "finetuning": trial.finetuning,
        "option": trial.option,
        "value": trial.value,
        "fixed": dict(trial.fixed),
        "merged": mean(merged),
        "experts": mean(experts),
        "scaling": merged[0]["scaling"],
        "cpu_seconds": round(sum(r.provenance.get("cpu_seconds", 0.0) for r in records), 1),
    }


def choose(outcomes: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By fine-tuning method, the values that won: best merged validation accuracy, ties to the smaller value."""
    chosen: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(o["finetuning"] for o in outcomes):
        best = max(
            sorted((o for o in outcomes if o["finetuning"] == name), key=lambda o: o["value"]),
            key=lambda o: o["merged"],
        )
        chosen[name] = {**best["fixed"], best["option"]: best["value"]}
    return chosen


def path(suite: str) -> Path:
    """Where a suite's search is kept."""
    return suites.ASSETS / "suites" / f"{suite}.search.json"


def write(suite: str, outcomes: Sequence[dict[str, Any]], chosen: dict[str, dict[str, Any]], where: Path) -> None:
    """Keep every trial and the choice."""
    kept = {"criterion": f"mean validation accuracy of {CRITERION}", "trials": list(outcomes), "chosen": chosen}
    where.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
