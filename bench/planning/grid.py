"""Grids: which cells of a suite. A pure function from names to an ordered list of cells, experts before merges."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.cards import suites
from bench.cards.recipes import check_names
from bench.cards.suites import Suite
from bench.errors import BenchError, UnknownName
from bench.ground import names
from bench.kinds import EXPERIMENTS, KINDS, expert, zero_shot
from bench.kinds import imported as published
from bench.kinds.base import Cell, Expert
from bench.kinds.protocol import Setting
from bench.registry.catalogue import Catalogue
from bench.work.coefficients import COARSE, WHOLE

CORE = ("average", "task_arithmetic", "ties", "tsv_m", "iso_c")
METHODS = ("nonlinear", "tta", "att", "lora")
EIGHT = tuple(name for m in METHODS for name in (m, f"{m}+orthoreg"))


@dataclass(frozen=True)
class Grid:
    """A named selection: fine-tuning methods x operators (empty: every registered one), and shortcuts for tests.

    `composed` takes the catalogue's compositions (`tsv_m~lines`, `iso_c@core`) in place of its operators.
    """

    title: str
    finetuning: tuple[str, ...] = EIGHT
    operators: tuple[str, ...] = CORE
    composed: bool = False
    suite: str = "mini8"
    tasks: int | None = None
    recipe: tuple[tuple[str, Any], ...] = ()
    experiments: tuple[str, ...] = ("addition",)
    """Of `bench.kinds.EXPERIMENTS`."""
    subsets: int = 6
    """Sets of tasks of each size, where the grid has subsets."""
    sweep: str = COARSE
    """Which coefficients validation looks at, where an operator has several (`bench.work.coefficients`)."""

    def merges(self, catalogue: Catalogue) -> tuple[str, ...]:
        """Names of the operators and compositions that the grid takes from a catalogue."""
        return tuple(catalogue.composed) if self.composed else self.operators or tuple(catalogue.operators)


GRIDS = {
    "smoke": Grid(
        "two tasks, few steps: does everything run?",
        finetuning=("nonlinear", "att+orthoreg"),
        operators=("task_arithmetic", "ties"),
        tasks=2,
        recipe=(("steps", 8), ("warmup_steps", 2)),
    ),
    "demo": Grid("all eight fine-tuning methods x the five core operators", experiments=("addition", "geometry")),
    "all": Grid(
        "all eight fine-tuning methods x every registered operator, negation and geometry",
        operators=(),
        experiments=("addition", "negation", "geometry"),
    ),
    "compositions": Grid("all eight fine-tuning methods x operators with modifiers and in spaces", composed=True),
    "paper": Grid(
        "the OrthoReg paper's tables on vision8: real CLIP, GPUs",
        operators=(),
        suite="vision8",
        experiments=("addition", "negation", "geometry"),
        sweep=WHOLE,  # as the published figures were chosen
    ),
    "subsets": Grid(
        "accuracy against the number of merged tasks", operators=("task_arithmetic", "iso_c"), experiments=("subsets",)
    ),
    "disentangle": Grid(
        "weight-disentanglement error of pairs of tasks, and post-hoc linearisation",
        operators=("task_arithmetic",),
        experiments=("disentangle", "posthoc"),
    ),
    "strength": Grid(
        "accuracy against the strength of the regulariser, and what searching it costs",
        ("att+orthoreg",),
        ("task_arithmetic",),
        experiments=("strength",),
    ),
}
GRIDS |= {
    e: Grid((KINDS[e].cell.__doc__ or e).partition("\n")[0], experiments=(e,)) for e in EXPERIMENTS if e not in GRIDS
}
"""An experiment is a grid too, of the usual fine-tuning methods and operators where nothing else is said above."""


def grid(name: str) -> Grid:
    """The grid of this name."""
    if name not in GRIDS:
        raise UnknownName("grid", name, GRIDS)
    return GRIDS[name]


def plan(
    suite: Suite,
    chosen: Grid,
    catalogue: Catalogue,
    *,
    seeds: Sequence[int] = (0,),
    finetuning: Iterable[str] = (),
    operators: Iterable[str] = (),
    backbones: Iterable[str] = (),
    subsets: int | None = None,
    imported: Iterable[Expert] = (),
) -> list[Cell]:
    """Every cell of the grid, each once, in an order in which all needs come first.

    `finetuning`, `operators`, `backbones` and `subsets` replace the grid's own choice where given. A fine-tuning
    method with a family, `nonlinear:fusionbench`, means experts among `imported`.
    """
    methods = tuple(finetuning) or chosen.finetuning
    merges = tuple(operators) or chosen.merges(catalogue)
    for name in backbones:
        if name not in suite.backbones and "/" not in name:
            raise UnknownName(f"backbone of suite {suite.name}", name, suite.backbones)
    if chosen.tasks is not None and chosen.tasks > len(suite.tasks):
        raise BenchError(
            f"grid wants {chosen.tasks} tasks, suite {suite.name} has {len(suite.tasks)}; choose another suite"
        )
    check_names(dict(chosen.recipe), catalogue.owners(name for name in methods if not names.finetuning(name).family))
    tasks, recipe, stored = suite.tasks[: chosen.tasks], dict(chosen.recipe), tuple(imported)
    sizes = chosen.subsets if subsets is None else subsets
    cells: list[Cell] = []
    for backbone in map(suites.backbone, backbones or suite.backbones):
        setting = Setting(suite, backbone, catalogue, tasks, recipe, merges, chosen.sweep, sizes, stored)
        cells += zero_shot.plan(setting)
        for seed in seeds:
            for name in methods:
                cells += _of_experts(replace(setting, finetuning=name, seed=seed), chosen.experiments)
    return list({cell.key: cell for cell in cells}.values())


def _of_experts(setting: Setting, experiments: Iterable[str]) -> list[Cell]:
    """One set of experts, and what a grid does with them."""
    family = names.finetuning(setting.finetuning).family
    experts: Sequence[Expert] = published.plan(setting) if family else expert.plan(setting)
    setting = replace(setting, experts=experts)
    return [*experts, *(cell for name in experiments for cell in KINDS[name].plan(setting))]
