"""Options of methods and regularisers in a recipe: whose they are, how they are named, what is refused."""

from pathlib import Path
from typing import Any

import pytest

from bench.cards import recipes, suites
from bench.cards.recipes import Owner, Recipe
from bench.errors import BenchError, UnknownName

LORA = Owner("lora", {"rank": (8, 4), "alpha": (8.0,)})
MINE = Owner("mine", {"alpha": (2.0,), "lr": (0.5, 1.0), "bias": (True, False)})
LOW = Owner.regularizer("low", {"alpha": (1.0,), "form": ("frobenius",), "strength": (0.3, 1.0)})
LOOP = {"steps": 10, "batch_size": 4, "lr": 1e-3}
KNOWN: dict[str, Any] = {owner.name: owner.grid for owner in (LORA, MINE)} | {"low": {**LOW.grid, "strength": (0.3,)}}


def settled(owners: list[Owner], *layers: tuple[str, dict[str, Any]]) -> Recipe:
    return recipes.settle("test", [("", LOOP), *layers], owners)


def test_an_option_at_its_default_is_left_out_and_equal_numbers_are_one() -> None:
    assert settled([LORA], ("", {"rank": 8, "alpha": 8})).options == ()
    assert settled([LORA], ("", {"rank": 16.0, "alpha": 4})).options == (("alpha", 4.0), ("rank", 16))
    assert [type(v) for _, v in settled([LORA], ("", {"rank": 16.0, "alpha": 4})).options] == [float, int]


def test_an_option_applies_where_it_is_declared_only() -> None:
    given = ("", {"rank": 4, "form": "squared", "bias": False})
    assert settled([LORA], given).options == (("rank", 4),)
    assert settled([LORA, LOW], given).options == (("form", "squared"), ("rank", 4))
    assert settled([MINE], given).options == (("bias", False),)


def test_a_name_that_the_loop_has_too_is_its_own_only_when_qualified() -> None:
    recipe = settled([MINE], ("", {"lr": 0.01, "mine.lr": 1.0}))
    assert recipe.lr == 0.01
    assert recipe.options == (("mine.lr", 1.0),)
    assert recipe.shares(MINE) == [{"lr": 1.0}]


def test_a_name_of_both_owners_must_be_qualified_outside_their_tables() -> None:
    with pytest.raises(BenchError, match=r"^test: 'alpha' means mine\.alpha and low\.alpha; write the one"):
        settled([MINE, LOW], ("", {"alpha": 4.0}))
    recipe = settled([MINE, LOW], ("mine", {"alpha": 4.0}), ("low", {"alpha": 3.0}), ("", {"mine.alpha": 5.0}))
    assert recipe.options == (("low.alpha", 3.0), ("mine.alpha", 5.0))
    assert recipe.shares(MINE, LOW) == [{"alpha": 5.0}, {"alpha": 3.0}]


@pytest.mark.parametrize("options", [{}, {"rank": 4}, {"mine.lr": 1.0, "bias": False}, {"form": "squared"}], ids=str)
def test_an_identity_is_flat_and_gives_the_recipe_back(options: dict[str, Any]) -> None:
    recipe = Recipe(**LOOP, clip=0.5, options=options)  # type: ignore[arg-type]
    assert recipes.identity(recipe) == {**LOOP, "clip": 0.5, **options}
    assert recipes.from_identity(recipes.identity(recipe)) == recipe
    assert hash(recipe) == hash(recipes.from_identity(recipes.identity(recipe)))


@pytest.mark.parametrize("options", [{"lr": 1.0}, {"rank": [1]}, {"rank": None}, {"rank": float("nan")}], ids=str)
def test_what_is_no_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match=r"recipe: options is .*; give names that the loop does not have"):
        Recipe(**LOOP, options=options)  # type: ignore[arg-type]


def test_an_option_of_nobody_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no recipe option named 'rnk'; did you mean 'rank'"):
        Recipe(**LOOP, options={"rnk": 4}).shares(LORA)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match=r"named 'lora.alhpa'; did you mean 'lora.alpha'"):
        recipes.check_names(["clip", "rank", "lora.alhpa"], [LORA])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"rank": 0}, "lora: option rank=0 is not a whole number of at least 1"),
        ({"rank": 8.5}, "lora: option rank=8.5 is not a whole number of at least 1"),
        ({"rank": "many"}, "lora: option rank='many' is not a finite number"),
        ({"alpha": 0.0}, "lora: option alpha=0.0 is not positive"),
    ],
)
def test_a_value_that_cannot_be_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BenchError, match=f"^test: {says}"):
        settled([LORA], ("", given))


def test_what_the_command_line_says() -> None:
    texts = ["clip=0.5", "steps=7", "rank=16", "share=0.25", "form=squared", "bias=false", "augment=none"]
    values = [0.5, 7, 16, 0.25, "squared", False, "none"]
    assert [(value, type(value)) for _, value in recipes.parse(texts)] == [(v, type(v)) for v in values]


SUITE = """
like = "mini8"
name = "toy"
title = "A toy"
[recipe]
steps = 5
batch_size = 2
lr = 1e-3
rank = 4
[methods.mine]
alpha = 4
"mine.lr" = 1.0
[regularizers.low]
alpha = 3.0
"""


def suite(tmp_path: Path, text: str = SUITE) -> suites.Suite:
    (tmp_path / "toy.toml").write_text(text)
    return suites.read(tmp_path / "toy.toml")


def test_a_suite_gives_options_to_their_owners(tmp_path: Path) -> None:
    toy = suite(tmp_path)
    assert toy.recipe("lora", "", "", KNOWN).options == (("rank", 4),)
    assert toy.recipe("mine", "", "", KNOWN).options == (("alpha", 4.0), ("mine.lr", 1.0))
    both = toy.recipe("mine", "low", "", KNOWN)
    assert both.options == (("low.alpha", 3.0), ("mine.alpha", 4.0), ("mine.lr", 1.0))
    with pytest.raises(
        BenchError, match=r"suite toy: recipe of mine: no recipe option named 'rnak'.*correct the suite"
    ):
        suite(tmp_path, SUITE.replace("rank", "rnak")).recipe("mine", "", "", KNOWN)


def test_a_regularizer_without_a_strength_is_refused(tmp_path: Path) -> None:
    """F1: it would train without its penalty, under its own name."""
    toy, known = suite(tmp_path), {**KNOWN, "new": {}}
    says = r"suite toy gives no strength for the regulariser new, .*\[regularizers.new\] strength = ... into toy.toml"
    with pytest.raises(BenchError, match=says):
        toy.recipe("mine", "new", "", known)
    with pytest.raises(BenchError, match="suite mini8 gives no strength for the regulariser any_new_regulariser"):
        suites.load("mini8").recipe("nonlinear", "any_new_regulariser", "", {"orthoreg": {"form": ("frobenius",)}})
    assert toy.recipe("mine", "new", "", known, strength=0.0).strength == 0.0  # asked for: the start of a curve
    assert toy.recipe("mine", "low", "", known).strength == 0.3  # declared
    assert toy.recipe("mine", "", "", known).strength == 0.0
