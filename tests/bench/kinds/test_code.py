"""Whether this code computes what a record holds: versions, and the texts of a user's own files."""

from dataclasses import replace

import pytest

from bench.cards.recipes import Recipe
from bench.errors import BenchError
from bench.kinds import code
from bench.kinds.addition import Addition
from bench.kinds.expert import Finetune
from bench.kinds.geometry import Geometry
from bench.kinds.imported import Imported
from bench.kinds.negation import Negation
from bench.registry.live import Registry
from methods.finetuning import FINETUNING
from methods.merging import MERGING
from methods.regularizers import REGULARIZERS

WHERE = {"suite": "mini8", "backbone": "mini", "backbone_fingerprint": "fp"}
TIES = MERGING["ties"].with_(version=3)
KNOWN = Registry(
    {"ties": TIES, "mine": TIES.with_(name="mine")}, dict(FINETUNING), sources={"mine": "new", "own": "new"}
)
MERGE = Addition(
    **WHERE, tasks=(), experts=(), finetuning="att", operator="mine", version=3, options="{}", coefficients=(1.0,),
    board="data-free", seed=0,
)  # fmt: skip
EXPERT = Finetune(
    **WHERE, task="digits", card="c", method="att", regularizer="", seed=0, version=1,
    recipe=Recipe(steps=1, batch_size=1, lr=1.0),
)  # fmt: skip


def test_the_version_of_a_cell_is_that_of_what_computes_it() -> None:
    newer = Registry({}, FINETUNING | {"att": replace(FINETUNING["att"], version=2)})
    assert code.version(KNOWN, MERGE) == 3
    assert code.version(KNOWN, EXPERT) == FINETUNING["att"].version == 1
    assert code.version(newer, EXPERT) == 2
    assert code.version(newer, replace(EXPERT, regularizer="orthoreg")) == 2 + 1000 * REGULARIZERS["orthoreg"].version
    assert code.version(KNOWN, Geometry(**WHERE, tasks=(), experts=(), finetuning="att", seed=0)) == Geometry.version
    published = Imported(**WHERE, task="", card="", method="att", regularizer="", seed=0, family="lab", sha256="")
    for known in (KNOWN, newer):
        code.hold(known, published, {})  # nothing here trained it


def test_composed_operators_have_their_operators_file_and_a_version() -> None:
    cell = replace(MERGE, operator="mine~lines")
    assert KNOWN.knows("mine~lines@core")
    assert not KNOWN.knows("lines")
    assert code.source(KNOWN, cell) == "new"
    assert code.source(KNOWN, replace(MERGE, operator="ties")) == ""
    assert code.source(KNOWN, EXPERT) == ""
    assert code.source(KNOWN, replace(EXPERT, method="own")) == "new"


def test_another_version_than_was_measured_is_refused() -> None:
    code.hold(KNOWN, MERGE, {})
    with pytest.raises(BenchError, match="was measured by version 2 of its method, here is version 3"):
        code.hold(KNOWN, replace(MERGE, version=2), {})
    with pytest.raises(BenchError, match="was measured by version 7 of its method, here is version 1"):
        code.hold(KNOWN, replace(EXPERT, version=7), {})


def test_another_text_than_was_measured_is_refused() -> None:
    for provenance in ({}, {"source": ""}, {"source": "new"}):
        code.hold(KNOWN, MERGE, provenance)
    with pytest.raises(
        BenchError, match=r"the file that has mine has changed since .*; write version=4 into its record"
    ):
        code.hold(KNOWN, MERGE, {"source": "old"})
    code.hold(KNOWN, replace(MERGE, operator="ties"), {"source": "old"})  # built in: its version says all


def test_a_method_that_is_not_here_is_told() -> None:
    with pytest.raises(BenchError, match="operator theirs~lines is not here; give its file with --include"):
        code.version(KNOWN, replace(MERGE, operator="theirs~lines"))
    with pytest.raises(BenchError, match="method theirs is not here; give its file with --include"):
        code.version(KNOWN, replace(EXPERT, method="theirs"))


@pytest.mark.parametrize("kind", [Negation, Geometry])
def test_other_kinds_are_held_to_their_own_version(kind: type) -> None:
    more = {"task": "", "card": "", "control": "", "control_card": "", "coefficients": (0.0,), "keep": 0.95}
    cell = kind(**WHERE, experts=("a",), finetuning="att", seed=0, **(more if kind is Negation else {"tasks": ()}))
    code.hold(KNOWN, cell, {})
    with pytest.raises(BenchError, match="version 9"):
        code.hold(KNOWN, replace(cell, version=9), {})
