"""What a result is named by follows all that it depends on, and nothing else."""

from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest

from bench.cards import datasets, suites
from bench.cards.recipes import LOOP, Recipe
from bench.errors import BenchError
from bench.ground import names
from bench.kinds import from_identity
from bench.kinds.addition import Addition
from bench.kinds.base import Cell
from bench.kinds.disentanglement import Disentanglement
from bench.kinds.expert import Finetune
from bench.kinds.geometry import Geometry
from bench.kinds.imported import Imported
from bench.kinds.negation import Negation
from bench.kinds.strength import Strength
from bench.kinds.zero_shot import ZeroShot
from bench.registry import catalogue

WHERE: dict[str, Any] = {"suite": "mini8", "backbone": "mini", "backbone_fingerprint": "fp"}
PAIR = (("digits", "card"), ("land", "card"))
EXPERT = {**WHERE, "task": "digits", "card": "card", "method": "att", "regularizer": "orthoreg", "seed": 0}
MERGE = {
    **WHERE, "tasks": PAIR, "experts": ("a", "b"), "finetuning": "att", "operator": "ties", "version": 1,
    "options": "{}", "coefficients": (0.0, 0.5), "board": "validation-tuned", "seed": 0, "sweep": "coarse-to-fine",
}  # fmt: skip
OF = {**WHERE, "experts": ("a", "b"), "finetuning": "att", "seed": 0}
RECIPE = Recipe(steps=10, batch_size=4, lr=1e-3, warmup_steps=2, strength=0.5)
OWN: dict[str, Any] = {"rank": 4, "alpha": 4.0}
PENALTY: dict[str, Any] = {"form": "squared", "penalised": "layers", "penalty_precision": "mixed", "sketch": 2}
"""Options of LoRA and of the regularisers, not at their defaults."""
KNOWN = catalogue.load()
PLAIN = suites.load("mini8").model_copy(
    update={
        "name": "unsearched",
        "recipe_defaults": {"steps": 10, "batch_size": 4, "lr": 1e-3, "strength": 1.0},
        "methods": {},
        "regularizers": {},
    }
)
CELLS: list[Cell] = [
    ZeroShot(**WHERE, tasks=PAIR),
    Finetune(**EXPERT, version=1, recipe=RECIPE),
    Imported(**EXPERT, family="lab", sha256="f" * 64),
    Addition(**MERGE),
    Strength(**MERGE, strength=0.5),
    Geometry(**OF, tasks=PAIR),
    Disentanglement(**OF, tasks=PAIR, mode="", coefficients=(0.0, 1.0), images=9),
    Negation(
        **OF | {"experts": ("a",)}, task="digits", card="card", control="shapes", control_card="card",
        coefficients=(0.0, 1.0), keep=0.9,
    ),
]  # fmt: skip


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, Recipe):
        return replace(value, lr=2e-3)
    return {str: lambda: f"{value}x", int: lambda: value + 1, float: lambda: value + 0.25, tuple: lambda: value[::-1]}[
        type(value)
    ]()


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.kind)
def test_a_key_follows_every_field(cell: Cell) -> None:
    for field in fields(cell):
        value = getattr(cell, field.name)
        other = replace(cell, **{field.name: ("z",) if value == ("a",) else changed(value)})
        assert other.key != cell.key, field.name
        assert from_identity(other.identity, other.key) == other


def test_a_key_follows_the_kind() -> None:
    same = Addition(**MERGE)
    assert Strength(**MERGE, strength=0.0).key != same.key
    assert len({cell.key for cell in CELLS}) == len(CELLS)


def test_a_key_follows_every_number_of_the_recipe() -> None:
    cell = Finetune(**EXPERT, version=1, recipe=RECIPE)
    loop = {
        "steps": 11, "batch_size": 5, "lr": 2e-3, "weight_decay": 0.2, "warmup_steps": 3, "clip": 0.5,
        "betas": (0.9, 0.99), "label_smoothing": 0.1, "precision": "bfloat16", "augment": "crop", "strength": 0.25,
    }  # fmt: skip
    assert loop.keys() == LOOP.keys()
    assert KNOWN.options["lora"].keys() == OWN.keys()
    assert KNOWN.options["orthoreg"].keys() == PENALTY.keys()
    recipes = [replace(RECIPE, **{name: value}) for name, value in loop.items()]
    others = {option: values[-1] for grid in KNOWN.options.values() for option, values in grid.items()}
    others = {name: value for name, value in others.items() if name not in LOOP} | OWN | PENALTY
    recipes += [replace(RECIPE, options={name: value}) for name, value in others.items()]
    keys = {replace(cell, recipe=recipe).key for recipe in recipes}
    assert len(keys | {cell.key}) == len(recipes) + 1


def test_cells_name_what_they_need() -> None:
    needs = {cell.kind: cell.needs for cell in CELLS}
    assert needs == {
        "zeroshot": (), "expert": (), "imported": (), "addition": ("a", "b"), "strength": ("a", "b"),
        "geometry": ("a", "b"), "disentangle": ("a", "b"), "negation": ("a",),
    }  # fmt: skip


def test_a_damaged_identity_is_no_cell() -> None:
    cell = Addition(**MERGE)
    with pytest.raises(BenchError, match="is damaged"):
        from_identity(cell.identity | {"seed": 1}, cell.key)


@pytest.mark.parametrize(
    ("name", "method"),
    [("att", "att"), ("att+orthoreg", "att"), ("tta:lab", "tta"), ("tta+orthoreg:lab", "tta"), ("lora:a+b", "lora")],
)
def test_the_method_of_a_fine_tuning(name: str, method: str) -> None:
    assert names.finetuning(name).method == method


def test_a_card_is_named_by_its_name_its_classes_its_templates_and_its_splits() -> None:
    card = datasets.load("digits")
    split = card.splits["test"]
    meaning = [
        {"name": "numerals"},
        {"classes": card.classes[::-1]},
        {"templates": (*card.templates, "a {}")},
        {"splits": card.splits | {"test": split.model_copy(update={"rows": split.rows - 1})}},
        {"splits": card.splits | {"test": split.model_copy(update={"sha256": "f" * 64})}},
    ]
    found = {card.model_copy(update=update).fingerprint for update in meaning}
    assert len(found | {card.fingerprint}) == len(meaning) + 1
    for update in ({"title": "x"}, {"notes": "x"}, {"sources": ()}, {"recipe": datasets.RecipeCard(epochs=9)}):
        assert card.model_copy(update=update).fingerprint == card.fingerprint


def test_a_backbone_is_named_by_its_architecture_its_weights_and_its_images() -> None:
    card = suites.backbone("mini")
    assert card.fingerprint == f"{card.architecture}/{card.sha256[:16]}/{card.image_size}"
    unhashed = card.model_copy(update={"sha256": ""})
    assert unhashed.fingerprint == f"{card.architecture}/{card.weights}/{card.image_size}"
    meaning = ({"architecture": "x"}, {"sha256": "f" * 64}, {"image_size": 7}, {"sha256": "", "weights": "other"})
    assert len({card.model_copy(update=update).fingerprint for update in meaning}) == 4


@pytest.mark.parametrize(
    ("finetuning", "regularizer", "read"),
    [
        ("nonlinear", "", ()), ("tta", "", ()), ("att", "", ()), ("lora", "", ("rank", "alpha")),
        ("nonlinear", "orthoreg", ("penalty",)), ("att", "orthoreg", ("penalty",)),
        ("lora", "orthoreg", ("rank", "alpha", "penalty")),
    ],
)  # fmt: skip
def test_a_key_does_not_follow_what_a_method_never_reads(
    finetuning: str, regularizer: str, read: tuple[str, ...]
) -> None:
    """Neither does it follow a strength without a regulariser."""
    recipe = partial(PLAIN.recipe, finetuning, regularizer, "", KNOWN.options)
    for name, value in (OWN | PENALTY | {"strength": 2.0}).items():
        matters = (name if name in OWN else "penalty") in read
        assert (recipe(**{name: value}) != recipe()) == matters, name
