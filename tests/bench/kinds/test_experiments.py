from dataclasses import replace
from math import comb

import pytest

from bench.cards import suites
from bench.errors import BenchError
from bench.kinds import disentanglement, from_identity, strength, subsets
from bench.kinds.addition import Addition
from bench.kinds.base import Cell
from bench.kinds.disentanglement import Disentanglement
from bench.kinds.expert import Finetune
from bench.kinds.geometry import Geometry
from bench.kinds.negation import Negation
from bench.kinds.posthoc import Posthoc
from bench.kinds.strength import Strength, StrengthExpert
from bench.planning.grid import Grid, grid, plan
from bench.registry import catalogue

SUITE, KNOWN = suites.load("mini8"), catalogue.load()
NEW = ("negation", "geometry", "subsets", "disentangle", "strength")


def experts(name: str = "att+orthoreg") -> list[Finetune]:
    chosen = Grid("experts only", (name,), ("average",))
    return [c for c in plan(SUITE, chosen, KNOWN) if isinstance(c, Finetune)]


def of(cells: list[Cell], kind: type[Cell]) -> list:
    return [c for c in cells if type(c) is kind]


@pytest.mark.parametrize("name", NEW)
def test_needs_come_first_and_every_cell_survives_its_identity(name: str) -> None:
    seen: set[str] = set()
    for cell in plan(SUITE, grid(name), KNOWN, seeds=(0, 1)):
        assert set(cell.needs) <= seen
        assert cell.key not in seen
        assert from_identity(cell.identity) == cell
        seen.add(cell.key)
    assert len(seen) > 10


def test_negation_is_one_cell_for_every_expert() -> None:
    cells = plan(SUITE, grid("negation"), KNOWN, finetuning=["att", "tta"], seeds=(0, 1))
    found = of(cells, Negation)
    assert len(found) == 2 * 8 * 2
    assert {c.needs for c in found} == {(e.key,) for e in of(cells, Finetune)}
    assert {(c.control, c.coefficients) for c in found} == {("shapes", tuple(i / 20 for i in range(21)))}


def test_all_has_negation_and_geometry_and_demo_has_geometry() -> None:
    everything, demo = plan(SUITE, grid("all"), KNOWN), plan(SUITE, grid("demo"), KNOWN)
    assert (len(of(everything, Negation)), len(of(everything, Geometry))) == (64, 8)
    assert (len(of(demo, Negation)), len(of(demo, Geometry))) == (0, 8)


def test_subsets_are_all_or_so_many_of_every_size() -> None:
    sizes = [len(s) for s in subsets.chosen(experts(), at_most=70)]
    assert {k: sizes.count(k) for k in set(sizes)} == {k: comb(8, k) for k in range(2, 9)}
    few = [len(s) for s in subsets.chosen(experts(), at_most=3)]
    assert {k: few.count(k) for k in set(few)} == {2: 3, 3: 3, 4: 3, 5: 3, 6: 3, 7: 3, 8: 1}
    assert subsets.chosen(experts(), at_most=0) == []


def test_samples_grow_and_are_the_same_for_every_method() -> None:
    def names(method: str, n: int) -> set[tuple[str, ...]]:
        return {tuple(e.task for e in s) for s in subsets.chosen(experts(method), n)}

    assert names("att", 2) < names("att", 5)
    assert names("att", 5) == names("nonlinear", 5)


def test_the_whole_set_is_the_ordinary_addition() -> None:
    ordinary = {c.key for c in plan(SUITE, grid("demo"), KNOWN, operators=["iso_c"]) if isinstance(c, Addition)}
    cells = of(plan(SUITE, grid("subsets"), KNOWN, operators=["iso_c"], subsets=1), Addition)
    assert len(cells) == 8 * 7
    assert ordinary == {c.key for c in cells if len(c.tasks) == 8}


def test_tangent_methods_are_not_linearised_again() -> None:
    cells = plan(SUITE, grid("disentangle"), KNOWN, finetuning=["tta", "nonlinear"])
    modes = {(c.finetuning, c.mode) for c in of(cells, Disentanglement)}
    assert modes == {("tta", ""), ("nonlinear", ""), ("nonlinear", "posthoc-linear")}
    assert {c.finetuning for c in of(cells, Posthoc)} == {"nonlinear"}
    assert len({c.tasks for c in of(cells, Disentanglement)}) == disentanglement.PAIRS


def test_strengths_vary_lambda_alone_and_share_the_suites_experts() -> None:
    cells = plan(SUITE, grid("strength"), KNOWN)
    own = of(cells, Finetune)
    strengths = sorted({*strength.STRENGTHS, own[0].recipe.strength})
    assert sorted(c.strength for c in of(cells, Strength)) == strengths
    assert len(of(cells, StrengthExpert)) == 8 * (len(strengths) - 1)
    assert {replace(c.recipe, strength=0.0) for c in of(cells, StrengthExpert)} == {
        replace(own[0].recipe, strength=0.0)
    }
    shared = next(c for c in of(cells, Strength) if c.strength == own[0].recipe.strength)
    assert shared.needs == tuple(e.key for e in own)


def test_strength_of_nothing_is_refused() -> None:
    with pytest.raises(BenchError, match=r"att has none; ask for att\+orthoreg"):
        plan(SUITE, grid("strength"), KNOWN, finetuning=["att"])
