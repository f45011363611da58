from dataclasses import fields, replace

import pytest

from bench.cells import KINDS, Addition, Cell, Finetune, ZeroShot, from_identity
from bench.errors import BenchError
from bench.recipes import Recipe

EXPERT = Finetune(
    "mini8", "mini", "fp", "digits", "card", "att", "orthoreg", 1, Recipe(steps=10, batch_size=4, lr=1e-3), 0
)
MERGE = Addition("mini8", "mini", "fp", (("digits", "card"),), (EXPERT.key,), "att+orthoreg", "ties", 1, '{"density":0.2}',
                 (0.0, 0.5), "validation-tuned", 0)  # fmt: skip
ZERO = ZeroShot("mini8", "mini", "fp", (("digits", "card"),))


def test_key_is_pinned() -> None:
    """A change here renames every result ever stored: raise KEY_VERSION and say so, or undo the change."""
    assert EXPERT.key == "1dd398be93e00aaee08e"
    assert MERGE.key == "76d1cfc1822b0713130e"


@pytest.mark.parametrize("cell", [EXPERT, MERGE, ZERO], ids=lambda c: c.kind)
def test_identity_round_trip(cell: Cell) -> None:
    again = from_identity(cell.identity)
    assert again == cell
    assert again.key == cell.key


@pytest.mark.parametrize("cell", [EXPERT, MERGE, ZERO], ids=lambda c: c.kind)
def test_every_field_is_identity(cell: Cell) -> None:
    assert {f.name for f in fields(cell)} == set(cell.identity) - {"kind", "key_version"}


def test_runtime_choices_never_reach_a_key() -> None:
    from bench.run import Runtime

    run_time = {f.name for f in fields(Runtime)}
    assert run_time & {f.name for kind in KINDS.values() for f in fields(kind)} == set()


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
