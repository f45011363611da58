from dataclasses import replace

import pytest

from bench.cards import suites
from bench.errors import UnknownName
from bench.kinds.addition import Addition
from bench.kinds.expert import Finetune
from bench.kinds.zero_shot import ZeroShot
from bench.planning.grid import EIGHT, GRIDS, grid, plan
from bench.registry import catalogue
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
