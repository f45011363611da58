from dataclasses import fields, replace

import pytest

from bench.cards.recipes import DEFAULTS, Recipe
from bench.errors import BenchError
from bench.kinds import KINDS, from_identity
from bench.kinds.addition import Addition
from bench.kinds.base import Cell
from bench.kinds.expert import Finetune
from bench.kinds.zero_shot import ZeroShot
from bench.registry.catalogue import load
from bench.work.coefficients import COARSE, WHOLE

EXPERT = Finetune(
    suite="mini8",
    backbone="mini",
    backbone_fingerprint="fp",
    task="digits",
    card="card",
    method="att",
    regularizer="orthoreg",
    seed=0,
    version=1,
    recipe=Recipe(steps=10, batch_size=4, lr=1e-3),
)
MERGE = Addition(
    suite="mini8",
    backbone="mini",
    backbone_fingerprint="fp",
    tasks=(("digits", "card"),),
    experts=(EXPERT.key,),
    finetuning="att+orthoreg",
    operator="ties",
    version=1,
    options='{"density":0.2}',
    coefficients=(0.0, 0.5),
    board="validation-tuned",
    seed=0,
)
COARSER = replace(MERGE, sweep=COARSE)
ZERO = ZeroShot("mini8", "mini", "fp", (("digits", "card"),))


def test_key_is_pinned() -> None:
    """A change here renames every result ever stored: raise KEY_VERSION and say so, or undo the change."""
    assert EXPERT.key == "20b80defc117e5f60823"
    assert MERGE.key == "1f46aed1c50bb893c0dd"
    assert COARSER.key == "0d0aa1c097f81604fa6b"


def test_a_whole_sweep_is_not_in_the_key() -> None:
    assert COARSER.identity == MERGE.identity | {"sweep": COARSE}
    assert from_identity(MERGE.identity, MERGE.key) == replace(MERGE, sweep=WHOLE)


def test_recipe_defaults_are_pinned() -> None:
    """Keys leave out what is at its default: a changed default must raise KEY_VERSION."""
    pinned = {
        "weight_decay": 0.1, "warmup_steps": 0, "clip": 1.0, "betas": [0.9, 0.999], "label_smoothing": 0.0,
        "precision": "float32", "augment": "none", "strength": 0.0,
    }  # fmt: skip
    assert pinned == DEFAULTS
    options = {"form": "frobenius", "penalised": "matrices"}
    built_in = {
        "nonlinear": {}, "tta": {}, "att": {}, "lora": {"rank": 8, "alpha": 8.0},
        "orthoreg": {**options, "penalty_precision": "float32", "sketch": 0},
        "orthoreg_diagonal": options, "orthoreg_offdiagonal": options,
    }  # fmt: skip
    declared = {name: {o: values[0] for o, values in grid.items()} for name, grid in load().options.items()}
    assert {name: declared[name] for name in built_in} == built_in


def test_an_option_at_its_default_is_not_in_the_key() -> None:
    assert EXPERT.identity["recipe"] == {"steps": 10, "batch_size": 4, "lr": 1e-3}
    assert replace(EXPERT, recipe=replace(EXPERT.recipe, strength=0.5)).key != EXPERT.key


@pytest.mark.parametrize("cell", [EXPERT, MERGE, COARSER, ZERO], ids=lambda c: c.label)
def test_identity_round_trip(cell: Cell) -> None:
    again = from_identity(cell.identity)
    assert again == cell
    assert again.key == cell.key


@pytest.mark.parametrize("cell", [EXPERT, COARSER, ZERO], ids=lambda c: c.kind)
def test_every_field_is_identity(cell: Cell) -> None:
    assert {f.name for f in fields(cell)} == set(cell.identity) - {"kind", "key_version"}


def test_runtime_choices_never_reach_a_key() -> None:
    from bench.work.runtime import How

    run_time = {f.name for f in fields(How)}
    assert run_time & {f.name for kind in KINDS.values() for f in fields(kind.cell)} == set()


def test_key_follows_lineage() -> None:
    other = replace(EXPERT, recipe=replace(EXPERT.recipe, lr=2e-3))
    assert other.key != EXPERT.key
    assert replace(MERGE, experts=(other.key,)).key != MERGE.key
    assert MERGE.needs == (EXPERT.key,)


def test_unknown_kind_or_version_is_refused() -> None:
    with pytest.raises(BenchError, match="kind 'dream'"):
        from_identity({"kind": "dream", "key_version": 1})
    with pytest.raises(BenchError, match="key version 99"):
        from_identity(ZERO.identity | {"key_version": 99})
