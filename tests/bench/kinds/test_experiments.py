import hashlib
import random
from dataclasses import replace
from itertools import combinations
from math import comb

import pytest

from bench.cards import suites
from bench.errors import BenchError
from bench.kinds import disentanglement, from_identity, negation, strength, subsets
from bench.kinds.addition import Addition
from bench.kinds.base import Cell, sampled, shared
from bench.kinds.disentanglement import Disentanglement
from bench.kinds.expert import Finetune
from bench.kinds.geometry import Geometry
from bench.kinds.negation import Negation
from bench.kinds.posthoc import Posthoc
from bench.kinds.protocol import Setting
from bench.kinds.strength import Strength, StrengthExpert
from bench.planning.grid import Grid, grid, plan
from bench.registry import catalogue

SUITE, KNOWN = suites.load("mini8"), catalogue.load()
NEW = ("negation", "geometry", "subsets", "disentangle", "strength")


def experts(name: str = "att+orthoreg") -> list[Finetune]:
    chosen = Grid("experts only", (name,), ("average",))
    return [c for c in plan(SUITE, chosen, KNOWN) if isinstance(c, Finetune)]


def setting(some):
    first = some[0]
    return Setting(
        SUITE, suites.backbone(first.backbone), KNOWN, SUITE.tasks, recipe={}, merges=(), sweep="whole", subsets=6,
        imported=(), finetuning=first.finetuning, seed=first.seed, experts=some,
    )  # fmt: skip


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


def smallest(names: list[str], at_most: int) -> list[str]:
    """Those whose sha256 is smallest, in the order they came in."""
    kept = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:at_most]
    return [name for name in names if name in kept]


def test_a_sample_is_taken_by_the_hash_of_its_names_and_keeps_the_order() -> None:
    items = [(a, b) for a, b in combinations("abcdef", 2)]
    names = ["+".join(pair) for pair in items]
    for size in (0, 1, 4, 15, 99):
        found = sampled(items, size, lambda pair: pair)
        assert ["+".join(pair) for pair in found] == smallest(names, size)
    assert ["+".join(pair) for pair in sampled(items, 3, lambda pair: pair)] == ["a+b", "b+c", "c+d"]
    assert sampled(items, -1, lambda pair: pair) == []


def test_a_sample_does_not_depend_on_the_order_of_what_is_sampled() -> None:
    items = [(a, b) for a, b in combinations("abcdef", 2)]
    first = set(sampled(items, 5, lambda pair: pair))
    random.Random(0).shuffle(items)
    assert set(sampled(items, 5, lambda pair: pair)) == first


def test_pairs_and_subsets_are_sampled_by_the_names_of_their_tasks() -> None:
    some = experts("att")
    cells = disentanglement.plan(setting(some))
    pairs = smallest([f"{a.task}+{b.task}" for a, b in combinations(some, 2)], 4)
    assert ["+".join(task for task, _ in cell.tasks) for cell in cells] == [name for name in pairs for _ in range(2)]
    assert [cell.mode for cell in cells] == ["", "posthoc-linear"] * 4
    triples = smallest(["+".join(e.task for e in s) for s in combinations(some, 3)], 6)
    assert ["+".join(e.task for e in s) for s in subsets.chosen(some, 6) if len(s) == 3] == triples


def test_a_pair_has_the_keys_and_cards_of_its_two_experts() -> None:
    some = {e.task: e for e in experts("att")}
    for cell in disentanglement.plan(setting(list(some.values()))):
        assert cell.experts == tuple(some[task].key for task, _ in cell.tasks)
        assert all(some[task].card == card for task, card in cell.tasks)
        assert (cell.coefficients, cell.images) == ((-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0), 100)


def test_a_negation_has_its_experts_task_and_the_suites_control() -> None:
    some = [replace(e, seed=2) for e in experts("tta")]
    for cell, one in zip(negation.plan(setting(some)), some, strict=True):
        assert (cell.task, cell.card, cell.experts, cell.finetuning) == (one.task, one.card, (one.key,), "tta")
        assert (cell.control, cell.control_card) == ("shapes", SUITE.card("shapes").fingerprint)
        assert (cell.keep, cell.seed, cell.suite, cell.backbone) == (0.95, 2, "mini8", "mini")
        assert cell.backbone_fingerprint == one.backbone_fingerprint


def test_the_geometry_is_of_all_experts() -> None:
    some = [replace(e, seed=2) for e in experts("att+orthoreg")]
    cell = Geometry(**shared(some))
    assert (cell.experts, cell.finetuning, cell.seed) == (tuple(e.key for e in some), "att+orthoreg", 2)
    assert cell.tasks == tuple((e.task, e.card) for e in some)


def test_post_hoc_is_the_same_merge_of_another_kind() -> None:
    chosen = Grid("", ("att",), ("ties",), experiments=("addition", "posthoc"))
    cells = plan(SUITE, chosen, KNOWN)
    (merge,), (linear,) = of(cells, Addition), of(cells, Posthoc)
    assert linear.identity == merge.identity | {"kind": "posthoc"}
    assert linear.needs == merge.needs


def test_a_point_over_lambda_merges_the_experts_of_its_strength() -> None:
    some = experts()
    own = some[0].recipe.strength
    for value, made in strength.by_strength(some):
        assert [e.recipe for e in made] == [replace(e.recipe, strength=value) for e in some]
        assert [type(e) for e in made] == [Finetune if value == own else StrengthExpert] * 8
        assert [(e.task, e.card, e.seed, e.version) for e in made] == [
            (e.task, e.card, e.seed, e.version) for e in some
        ]
    cells = plan(SUITE, grid("strength"), KNOWN)
    strength_of = {e.key: e.recipe.strength for e in cells if isinstance(e, Finetune)}
    for cell in of(cells, Strength):
        assert {strength_of[key] for key in cell.needs} == {cell.strength}
        assert (cell.operator, len(cell.needs)) == ("task_arithmetic", 8)
