"""Points of a search over lambda: task addition and experts as ever, under kinds and options of their own."""

import json
from types import SimpleNamespace

import pytest
import torch
from linear_session import LinearSession

from bench.cards.recipes import Recipe
from bench.kinds import addition, expert, strength
from bench.kinds.addition import Addition
from bench.kinds.base import field_values
from bench.kinds.expert import Finetune
from bench.kinds.rows import seed_of
from bench.kinds.strength import Strength, StrengthExpert
from bench.work import finetune

MERGE = Addition(
    suite="toy", backbone="tower", backbone_fingerprint="fp", tasks=(("one", "card"), ("two", "card")),
    experts=("a", "b"), finetuning="att+orthoreg", operator="ties", version=1,
    options='{"density":0.2}', coefficients=(0.0, 0.5, 1.0), board="validation-tuned", seed=1,
)  # fmt: skip
VECTORS = {"a": [[0.0, 0.0], [1.0, 0.0]], "b": [[0.0, 0.0], [0.0, 0.0]]}
SETS = {
    ("one", "validation"): [((10, 7), 1), ((10, 2), 1)],
    ("two", "validation"): [((10, 0), 0)],
    ("one", "test"): [((10, 2), 1), ((10, 0), 1), ((10, 7), 1)],
    ("two", "test"): [((10, 7), 0), ((10, 0), 0)],
    ("one", "train"): [((1, 2), 0)],
}
EXPERT = Finetune(
    suite="toy", backbone="tower", backbone_fingerprint="fp", task="one", card="card", method="att",
    regularizer="orthoreg", seed=5, version=1001, recipe=Recipe(steps=2, batch_size=1, lr=1.0, strength=3.0),
)  # fmt: skip


def session(store: object = None) -> LinearSession:
    return LinearSession(SETS, VECTORS, accuracy={"validation": {"one": 1.0, "two": 1.0}}, store=store)


def test_a_point_is_the_task_addition_of_its_experts() -> None:
    cell, asked, plain = Strength(**field_values(MERGE), strength=0.3), session(), session()
    rows, found = strength.run(cell, asked)
    expected, facts = addition.run(MERGE, plain)
    own = ("kind", "options")
    assert [{k: v for k, v in r.items() if k not in own} for r in rows] == [
        {k: v for k, v in r.items() if k not in own} for r in expected
    ]
    assert (asked.asked, asked.referred, found) == (plain.asked, plain.referred, facts)
    assert asked.asked == [("one", "validation"), ("two", "validation"), ("one", "test"), ("two", "test")]


def test_its_rows_have_a_kind_of_their_own_and_name_the_strength_among_the_options() -> None:
    rows, _ = strength.run(Strength(**field_values(MERGE), strength=0.3), session())
    assert {(r["kind"], r["options"]) for r in rows} == {("strength", '{"density":0.2,"strength":0.3}')}
    assert {r["board"] for r in rows} == {"validation-tuned"}


def trained(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What training is called with, in place of training; the expert moves W by [[0, 0], [1, 0]]."""
    called: dict = {}

    def train(*given, **named):
        called.update(named, given=given)
        return finetune.Expert({"w": torch.tensor([[0.0, 0.0], [1.0, 0.0]])}, None, {"loss": 0.5})

    monkeypatch.setattr(finetune, "train", train)
    return called


def test_an_expert_at_another_strength_is_trained_with_it_and_named_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, (variant,)), *_ = strength.by_strength([EXPERT])
    assert isinstance(variant, StrengthExpert)
    called, written = trained(monkeypatch), {}
    asked = session(SimpleNamespace(write_vector=written.__setitem__))
    rows, found = strength.run_expert(variant, asked)
    assert called["given"][4].recipe.strength == 0.0
    assert {(r["kind"], json.loads(r["options"])["strength"]) for r in rows} == {("variant", 0.0)}
    assert asked.asked == [("one", "train"), ("one", "validation"), ("one", "test")]
    assert [(r["split"], r["correct"]) for r in rows] == [("validation", 2), ("test", 2)]
    assert written.keys() == {variant.key}
    assert found["loss"] == 0.5


def test_experts_of_all_strengths_see_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    for _, (cell,) in strength.by_strength([EXPERT]):
        called, asked = trained(monkeypatch), session(SimpleNamespace(write_vector=lambda *_: None))
        (strength.run_expert if isinstance(cell, StrengthExpert) else expert.run)(cell, asked)
        seeds.append(called["seed"])
    assert set(seeds) == {seed_of("finetune", "one", 5)}
    assert len(seeds) == len(strength.STRENGTHS)
