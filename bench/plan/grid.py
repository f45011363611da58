"""Grids: which cells of a suite. A pure function from names to an ordered list of cells, experts before merges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.cards import suites
from bench.cards.recipes import check_names
from bench.cards.suites import BackboneCard, Suite
from bench.errors import BenchError, UnknownName
from bench.ground.toml_json import canonical
from bench.kinds import experiments
from bench.kinds.cells import PUBLISHED, Addition, Cell, Expert, Finetune, Imported, ZeroShot
from bench.registry.catalogue import Catalogue, joint_version
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
    """Of addition, negation, geometry, subsets, disentangle, posthoc, strength (`bench.kinds.experiments`)."""
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
    "negation": Grid("subtract every task vector, keep the control", experiments=("negation",)),
    "geometry": Grid("norms, angles, spectra and overlaps of the task vectors", experiments=("geometry",)),
    "subsets": Grid(
        "accuracy against the number of merged tasks", operators=("task_arithmetic", "iso_c"), experiments=("subsets",)
    ),
    "disentangle": Grid(
        "weight-disentanglement error of pairs of tasks, and post-hoc linearisation",
        operators=("task_arithmetic",),
        experiments=("disentangle", "posthoc"),
    ),
    "strength": Grid(
        "sensitivity to lambda, and what searching it costs",
        ("att+orthoreg",),
        ("task_arithmetic",),
        experiments=("strength",),
    ),
}


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
    imported: Iterable[Imported] = (),
) -> list[Cell]:
    """Every cell of the grid, each once, in an order in which all needs come first.

    `finetuning`, `operators`, `backbones` and `subsets` replace the grid's own choice where given. A fine-tuning
    method with a family, `nonlinear:fusionbench`, means experts among `imported`.
    """
    published = {(c.backbone, c.finetuning, c.task, c.seed): c for c in imported if c.suite == suite.name}
    methods = tuple(finetuning) or chosen.finetuning
    merges = tuple(operators) or chosen.merges(catalogue)
    for name in backbones:
        if name not in suite.backbones and "/" not in name:
            raise UnknownName(f"backbone of suite {suite.name}", name, suite.backbones)
    if chosen.tasks is not None and chosen.tasks > len(suite.tasks):
        raise BenchError(
            f"grid wants {chosen.tasks} tasks, suite {suite.name} has {len(suite.tasks)}; choose another suite"
        )
    check_names(dict(chosen.recipe), catalogue.owners(name for name in methods if PUBLISHED not in name))
    tasks = suite.tasks[: chosen.tasks]
    cells: list[Cell] = []
    for backbone in map(suites.backbone, backbones or suite.backbones):
        cells.append(zero_shot(suite, backbone, tasks))
        for seed in seeds:
            for name in methods:
                experts: list[Expert] = [
                    _published(published, suite, backbone, name, task, seed)
                    if PUBLISHED in name
                    else _finetune(suite, backbone, catalogue, name, task, seed, dict(chosen.recipe))
                    for task in tasks
                ]
                cells += experts
                sizes = chosen.subsets if subsets is None else subsets
                cells += _experiments(suite, catalogue, chosen, experts, merges, sizes)
    return list({cell.key: cell for cell in cells}.values())


def _experiments(
    suite: Suite,
    catalogue: Catalogue,
    chosen: Grid,
    experts: Sequence[Expert],
    merges: Sequence[str],
    subsets: int,
) -> list[Cell]:
    """What a grid does with one set of experts."""
    tangent = catalogue.finetuning[experts[0].method]["tangent"]
    cells: list[Cell] = []

    def additions(of: Sequence[Expert]) -> list[Addition]:
        return [_addition(suite, catalogue, of, operator, chosen.sweep) for operator in merges]

    for experiment in chosen.experiments:
        if experiment == "addition":
            cells += additions(experts)
        elif experiment == "negation":
            cells += experiments.negations(suite, experts)
        elif experiment == "geometry":
            cells.append(experiments.geometry(experts))
        elif experiment == "subsets":
            cells += [cell for some in experiments.subsets(experts, subsets) for cell in additions(some)]
        elif experiment == "disentangle":
            cells += experiments.disentangling(experts, ("",) if tangent else ("", "posthoc-linear"))
        elif experiment == "posthoc" and not tangent:
            cells += map(experiments.posthoc, additions(experts))
        elif experiment == "strength":
            trained = [e for e in experts if isinstance(e, Finetune)]
            if not trained:
                raise BenchError(f"{experts[0].finetuning}: sensitivity to lambda needs experts that are trained here")
            for strength, others in experiments.variants(trained):
                cells += [*others, *(experiments.at_strength(a, strength) for a in additions(others))]
    return cells


def zero_shot(suite: Suite, backbone: BackboneCard, tasks: Sequence[str]) -> ZeroShot:
    """The cell of the pretrained model on `tasks` and the control."""
    named = tuple((task, suite.card(task).fingerprint) for task in (*tasks, suite.control))
    return ZeroShot(suite.name, backbone.name, backbone.fingerprint, named)


def _published(
    known: Mapping[tuple[str, str, str, int], Imported],
    suite: Suite,
    backbone: BackboneCard,
    name: str,
    task: str,
    seed: int,
) -> Imported:
    found = known.get((backbone.name, name, task, seed))
    if found is None:
        raise BenchError(
            f"no imported expert {name} of {task} on {backbone.name}, seed {seed}, in this store; `bench import FILE "
            f"--task {task}` puts one there"
        )
    if (found.backbone_fingerprint, found.card) != (backbone.fingerprint, suite.card(task).fingerprint):
        raise BenchError(f"{name} of {task}: the backbone or the card has changed since it was imported; import again")
    return found


def _finetune(
    suite: Suite,
    backbone: BackboneCard,
    catalogue: Catalogue,
    name: str,
    task: str,
    seed: int,
    overrides: dict[str, Any],
) -> Finetune:
    method, regularizer = catalogue.split_finetuning(name)
    versions = [catalogue.finetuning[method]["version"]]
    if regularizer:
        versions.append(catalogue.regularizers[regularizer]["version"])
    return Finetune(
        suite=suite.name,
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task=task,
        card=suite.card(task).fingerprint,
        method=method,
        regularizer=regularizer,
        seed=seed,
        version=joint_version(*versions),
        recipe=suite.recipe(method, regularizer, task, catalogue.options, **overrides),
    )


def _addition(suite: Suite, catalogue: Catalogue, experts: Sequence[Expert], operator: str, sweep: str) -> Addition:
    facts = catalogue.operator(operator)
    coefficients = tuple(float(c) for c in facts["coefficients"])
    searched = len(coefficients) > 1
    return Addition(
        **experiments.shared(experts),
        operator=operator,
        version=facts["version"],
        options=canonical(
            {option: values[0] for option, values in facts["grid"].items()} | suite.operators.get(operator, {})
        ),
        coefficients=coefficients,
        board="validation-tuned" if facts["board"] == "data-free" and searched else facts["board"],
        sweep=sweep if searched else WHOLE,
    )
