import json
from dataclasses import replace
from typing import Any

import pytest

from bench.cards import datasets, suites
from bench.errors import BenchError, UnknownName
from bench.kinds.addition import Addition
from bench.kinds.expert import Finetune
from bench.kinds.geometry import Geometry
from bench.kinds.imported import Imported
from bench.kinds.negation import Negation
from bench.kinds.strength import StrengthExpert
from bench.kinds.zero_shot import ZeroShot
from bench.planning.grid import EIGHT, GRIDS, Grid, grid, plan
from bench.registry import catalogue
from bench.registry.catalogue import Catalogue, joint_version
from bench.work.coefficients import COARSE, WHOLE

SUITE, KNOWN = suites.load("mini8"), catalogue.load()


def test_demo_is_eight_methods_by_five_operators() -> None:
    cells = plan(SUITE, grid("demo"), KNOWN)
    assert sum(isinstance(c, ZeroShot) for c in cells) == 1
    assert sum(isinstance(c, Finetune) for c in cells) == 8 * 8
    assert sum(isinstance(c, Addition) for c in cells) == 8 * 5


def test_needs_come_first_and_keys_are_unique() -> None:
    cells = plan(SUITE, grid("all"), KNOWN, seeds=(0, 1))
    seen: set[str] = set()
    for cell in cells:
        assert set(cell.needs) <= seen
        assert cell.key not in seen
        seen.add(cell.key)


def test_demo_is_part_of_all() -> None:
    demo = {c.key for c in plan(SUITE, grid("demo"), KNOWN)}
    assert demo <= {c.key for c in plan(SUITE, grid("all"), KNOWN)}


def test_all_is_every_operator_and_compositions_are_a_grid_of_their_own() -> None:
    operators, composed = (
        {c.operator for c in plan(SUITE, grid(name), KNOWN) if isinstance(c, Addition)}
        for name in ("all", "compositions")
    )
    assert operators == set(KNOWN.operators)
    assert composed == set(KNOWN.composed)


def test_methods_share_everything_that_is_not_theirs() -> None:
    experts = [c for c in plan(SUITE, grid("demo"), KNOWN) if isinstance(c, Finetune)]
    for name in ("steps", "batch_size", "warmup_steps", "weight_decay"):
        assert len({getattr(c.recipe, name) for c in experts}) == 1, name


def test_own_choice_replaces_the_grids() -> None:
    cells = plan(SUITE, grid("demo"), KNOWN, finetuning=["att"], operators=["ties"], seeds=(3,))
    assert {c.finetuning for c in cells if isinstance(c, Finetune)} == {"att"}
    assert [c.operator for c in cells if isinstance(c, Addition)] == ["ties"]
    assert {c.seed for c in cells if isinstance(c, Finetune)} == {3}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: grid("demos"), "did you mean 'demo'"),
        (lambda: plan(SUITE, grid("demo"), KNOWN, finetuning=["at"]), "did you mean 'att'"),
        (lambda: plan(SUITE, grid("demo"), KNOWN, finetuning=["att+orthoregg"]), "did you mean 'orthoreg'"),
        (lambda: plan(SUITE, grid("demo"), KNOWN, operators=["tis"]), "did you mean 'ties'"),
        (lambda: plan(SUITE, grid("demo"), KNOWN, backbones=["ViT-B-32"]), "known: mini"),
    ],
)
def test_unknown_names_carry_the_nearest(call, says: str) -> None:
    with pytest.raises(UnknownName, match=says):
        call()


def test_grids_are_plannable() -> None:
    assert {"smoke", "demo", "all", "paper"} <= set(GRIDS)
    assert len(EIGHT) == 8


def test_searched_merges_are_swept_as_the_grid_says_and_fixed_ones_keep_their_keys() -> None:
    coarse, whole = (
        [c for c in plan(SUITE, replace(grid("all"), sweep=sweep), KNOWN) if isinstance(c, Addition)]
        for sweep in (COARSE, WHOLE)
    )
    assert {len(c.coefficients) > 1: c.sweep for c in coarse} == {True: COARSE, False: WHOLE}
    for one, other in zip(coarse, whole, strict=True):
        assert (one.key == other.key) == (len(one.coefficients) == 1)


def test_published_figures_were_chosen_on_whole_grids() -> None:
    assert [name for name in GRIDS if grid(name).sweep == WHOLE] == ["paper"]


def facts(board: str, *coefficients: float, **options: Any) -> dict[str, Any]:
    grid = {name: [default, "another"] for name, default in options.items()}
    return {"board": board, "coefficients": list(coefficients), "version": 4, "grid": grid, "needs": []}


TINY = Catalogue(
    operators={
        "fixed": facts("data-free", 1.0),
        "searched": facts("data-free", 0, 0.5, 1, density=0.2, scope="global"),
        "calibrated": facts("calibration", 0.0, 0.5),
        "entropic": facts("unlabelled-test", 1.0),
        "knowing": facts("task-id", 0.0, 1.0),
    },
    composed={}, modifiers={}, spaces={},
    finetuning={name: KNOWN.finetuning[name] | {"version": v} for name, v in (("nonlinear", 3), ("tta", 5))},
    regularizers={"orthoreg": KNOWN.regularizers["orthoreg"] | {"version": 7}},
)  # fmt: skip


def tiny(finetuning: str = "nonlinear", *, suite: suites.Suite = SUITE, **how: Any) -> list:
    """The plan of the grid that merges with all five operators."""
    chosen = Grid("", (finetuning,), (), tasks=3, **{k: how.pop(k) for k in ("recipe", "experiments") if k in how})
    return plan(suite, chosen, TINY, **how)


def of(cells: list, kind: type) -> list:
    return [cell for cell in cells if type(cell) is kind]


def test_a_board_is_what_the_operator_and_the_search_of_its_coefficient_see() -> None:
    assert {c.operator: c.board for c in of(tiny(), Addition)} == {
        "fixed": "data-free",
        "searched": "validation-tuned",
        "calibrated": "calibration",
        "entropic": "unlabelled-test",
        "knowing": "task-id",
    }


def test_no_searched_operator_is_on_the_data_free_board() -> None:
    cells = [c for name in ("all", "compositions") for c in plan(SUITE, grid(name), KNOWN) if isinstance(c, Addition)]
    assert {len(c.coefficients) for c in cells if c.board == "data-free"} == {1}
    assert min(len(c.coefficients) for c in cells if c.board == "validation-tuned") > 1


def test_an_operator_brings_its_version_its_coefficients_and_its_default_options() -> None:
    found = {c.operator: (c.version, c.coefficients, c.options) for c in of(tiny(), Addition)}
    assert found["searched"] == (4, (0.0, 0.5, 1.0), '{"density":0.2,"scope":"global"}')
    assert found["fixed"] == (4, (1.0,), "{}")


def test_options_of_the_suite_come_before_an_operators_defaults() -> None:
    suite = SUITE.model_copy(update={"operators": {"searched": {"scope": "layer"}, "fixed": {"own": 1}}})
    found = {c.operator: json.loads(c.options) for c in of(tiny(suite=suite), Addition)}
    assert found["searched"] == {"density": 0.2, "scope": "layer"}
    assert found["fixed"] == {"own": 1}
    assert found["entropic"] == {}


def test_mini8_minimises_entropies_in_sixty_steps() -> None:
    cells = plan(SUITE, grid("all"), KNOWN, finetuning=["att"], operators=["adamerging_task", "fisher"])
    entropic, fisher = of(cells, Addition)
    assert json.loads(entropic.options) == {"start": 0.3, "learning_rate": 0.01, "iterations": 60, "clamp": True}
    assert json.loads(fisher.options) == {"floor": 1e-6, "normalise": True}


def test_versions_of_method_and_regularizer_are_both_in_an_expert() -> None:
    assert [joint_version(3), joint_version(3, 7), joint_version(4, 7), joint_version(3, 8)] == [3, 7003, 7004, 8003]
    assert {c.version for c in of(tiny("nonlinear"), Finetune)} == {3}
    assert {c.version for c in of(tiny("nonlinear+orthoreg"), Finetune)} == {7003}


def test_a_newer_regularizer_makes_other_experts_and_other_merges() -> None:
    newer = replace(TINY, regularizers={"orthoreg": TINY.regularizers["orthoreg"] | {"version": 8}})
    chosen = Grid("", ("nonlinear", "nonlinear+orthoreg"), ("fixed",), tasks=2)
    before, after = ({c.label: c.key for c in plan(SUITE, chosen, known)} for known in (TINY, newer))
    assert before.keys() == after.keys()
    changed = {label for label, key in before.items() if after[label] != key}
    assert changed == {label for label in before if "+orthoreg" in label}


def test_every_seed_has_its_own_experts_and_its_own_merges_of_them() -> None:
    cells = tiny(seeds=(4, 0))
    experts = {(c.seed, c.task): c.key for c in of(cells, Finetune)}
    assert list(experts) == [(seed, task) for seed in (4, 0) for task in ("digits", "numbers", "letters")]
    assert len(set(experts.values())) == 6
    for cell in of(cells, Addition):
        assert cell.needs == tuple(experts[cell.seed, task] for task in ("digits", "numbers", "letters"))
    assert sorted({c.seed for c in of(cells, Addition)}) == [0, 4]
    assert len(of(cells, Addition)) == 2 * 5


def test_an_expert_has_its_tasks_card_its_backbone_and_the_suites_recipe() -> None:
    first, second, _ = of(tiny("nonlinear+orthoreg"), Finetune)
    assert (first.suite, first.backbone, first.method, first.regularizer) == ("mini8", "mini", "nonlinear", "orthoreg")
    assert [c.card for c in (first, second)] == [datasets.load(t).fingerprint for t in ("digits", "numbers")]
    assert first.backbone_fingerprint == suites.backbone("mini").fingerprint
    assert first.recipe == SUITE.recipe("nonlinear", "orthoreg", "", KNOWN.options)
    assert first.recipe.strength > 0


def test_the_recipe_of_the_grid_overrides_the_suites() -> None:
    cells = tiny(recipe=(("steps", 90), ("clip", 0.5)))
    usual = SUITE.recipe("nonlinear", "", "", KNOWN.options)
    assert {c.recipe for c in of(cells, Finetune)} == {replace(usual, steps=90, clip=0.5)}
    smoke = plan(SUITE, grid("smoke"), KNOWN)
    assert {(c.recipe.steps, c.recipe.warmup_steps) for c in of(smoke, Finetune)} == {(8, 2)}


def test_merges_are_of_the_experts_before_them() -> None:
    (cell,) = (c for c in of(tiny("nonlinear+orthoreg"), Addition) if c.operator == "fixed")
    assert (cell.finetuning, cell.suite, cell.backbone) == ("nonlinear+orthoreg", "mini8", "mini")
    assert cell.tasks == tuple((t, datasets.load(t).fingerprint) for t in ("digits", "numbers", "letters"))


def test_zero_shot_is_on_the_tasks_and_on_the_control_last() -> None:
    (cell,) = of(tiny(), ZeroShot)
    assert cell.tasks == tuple((t, datasets.load(t).fingerprint) for t in ("digits", "numbers", "letters", "shapes"))


def test_a_suite_with_fewer_tasks_than_the_grid_wants_is_told() -> None:
    with pytest.raises(BenchError, match="grid wants 9 tasks, suite mini8 has 8"):
        plan(SUITE, Grid("", ("nonlinear",), ("fixed",), tasks=9), TINY)


def test_experiments_are_those_of_the_grid() -> None:
    cells = tiny("nonlinear+orthoreg", experiments=("negation", "geometry"))
    assert of(cells, Addition) == of(cells, StrengthExpert) == []
    assert (len(of(cells, Negation)), len(of(cells, Geometry))) == (3, 1)
    assert [c.needs for c in of(cells, Negation)] == [(e.key,) for e in of(cells, Finetune)]


def published(task: str, **changed: Any) -> Imported:
    backbone = suites.backbone("mini")
    usual = {"suite": "mini8", "backbone": "mini", "backbone_fingerprint": backbone.fingerprint, "task": task}
    usual |= {"card": datasets.load(task).fingerprint, "method": "nonlinear", "regularizer": "", "seed": 0}
    return Imported(**usual | {"family": "lab", "sha256": task * 8} | changed)


def test_published_experts_are_taken_by_family_seed_backbone_and_suite() -> None:
    right = [published(task) for task in ("digits", "numbers", "letters")]
    others = [
        replace(one, **changed, sha256="other")
        for one in right
        for changed in ({"family": "house"}, {"seed": 1}, {"backbone": "ViT-B-32"}, {"suite": "vision8"})
    ]
    cells = tiny("nonlinear:lab", imported=[*others, *right, *others])
    assert of(cells, Imported) == right
    assert {c.needs for c in of(cells, Addition)} == {tuple(e.key for e in right)}
    with pytest.raises(BenchError, match="no imported expert nonlinear:lab of letters on mini, seed 0"):
        tiny("nonlinear:lab", imported=[*others, *right[:2]])


@pytest.mark.parametrize("changed", [{"backbone_fingerprint": "old"}, {"card": "old"}])
def test_a_published_expert_of_another_backbone_or_card_is_refused(changed: dict[str, str]) -> None:
    some = [published("digits", **changed), published("numbers"), published("letters")]
    with pytest.raises(BenchError, match="nonlinear:lab of digits: the backbone or the card has changed since"):
        tiny("nonlinear:lab", imported=some)


def test_recipes_of_all_methods_differ_where_the_suite_says_so() -> None:
    """vision8 trains for the epochs of a card, incomplete batches included, and LoRA at ten times the rate."""
    suite = suites.load("vision8")
    card = suite.card("dtd")
    lora, att = (suite.recipe(*way, "dtd", KNOWN.options) for way in (("lora", ""), ("att", "orthoreg")))
    assert (lora.lr, att.lr, lora.strength, att.strength) == (1e-4, 1e-5, 0.0, 10.0)
    assert lora.steps == att.steps == card.recipe.epochs * -(-card.splits["train"].rows // 128)
    assert (
        suite.recipe("att", "orthoreg", "dtd", KNOWN.options, lr=0.5, batch_size=1).steps
        == card.recipe.epochs * card.splits["train"].rows
    )
