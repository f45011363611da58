"""On a linear tower a model is its own linearisation; on another one it is not."""

import json

import torch
from linear_session import LinearSession, Squared

from bench.kinds import addition, posthoc, strength
from bench.kinds.posthoc import Posthoc
from bench.kinds.strength import Strength

FIELDS = {
    "suite": "toy",
    "backbone": "toy",
    "backbone_fingerprint": "fp",
    "tasks": (("one", "card"), ("two", "card")),
    "experts": ("a", "b"),
    "finetuning": "att",
    "operator": "task_arithmetic",
    "version": 1,
    "options": "{}",
    "coefficients": (0.0, 0.5, 1.0),
    "board": "validation-tuned",
    "seed": 0,
}
VECTORS = {"a": [[0.0, 0.0], [2.0, 0.0]], "b": [[0.0, 1.0], [0.0, 0.0]]}
SETS = {
    (task, split): pictures
    for split in ("validation", "test")
    for task, pictures in {"one": [((5, 4), 1), ((1, 9), 1)], "two": [((3, 4), 0), ((8, 1), 0)]}.items()
}


def counts(rows: list[dict]) -> list[tuple]:
    return [(r["task"], r["split"], r["scaling"], r["selected"], r["correct"]) for r in rows if r["operator"]]


def test_linear_models_are_their_own_linearisation() -> None:
    session = LinearSession(SETS, VECTORS)
    linear, _ = posthoc.run(Posthoc(**FIELDS), session)
    plain, _ = addition.run(Posthoc(**FIELDS), session, reference={"one": 1.0, "two": 1.0})
    assert counts(linear) == counts(plain)
    assert {r["kind"] for r in linear} == {"posthoc"}


def test_experts_are_linearised_too_and_are_the_reference() -> None:
    """Expert a at 1: logits (x, y + 2x): 1 for (5, 4) and (1, 9). Expert b: (x + y, y): 0 for both of its pictures."""
    rows, _ = posthoc.run(Posthoc(**FIELDS), LinearSession(SETS, VECTORS))
    alone = {(r["task"], r["split"]): (r["correct"], r["scaling"], r["tasks"]) for r in rows if not r["operator"]}
    assert alone == {(t, s): (2, 1.0, t) for t in ("one", "two") for s in ("validation", "test")}


def test_another_tower_is_linearised_at_the_pretrained_weights() -> None:
    """f_0 + J tau of (W x)^2 at W = I for expert a: (x^2, y^2 + 4 x y): (5, 4) gives (25, 96), (1, 9) gives (1, 117);
    for expert b: (x^2 + 2 x y, y^2): (3, 4) gives (33, 16)."""
    session = LinearSession(SETS, VECTORS, tower=Squared())
    (tangent,) = session.evaluator(None).sweep(
        {"w": -torch.tensor(VECTORS["a"])}, (1.0,), session.image_sets(None, [("one", "")], "test"), tangent=True
    )
    assert tangent[0].tolist() == [False, True]  # (25, 16 - 80) and (1, 81 - 36)
    rows, _ = posthoc.run(Posthoc(**FIELDS), session)
    at_one = {
        r["task"]: r["correct"] for r in rows if r["operator"] and r["scaling"] == 1.0 and r["split"] == "validation"
    }
    # both vectors: (x^2 + 2 x y, y^2 + 4 x y): (65, 96) and (19, 117) are right; (33, 64) is wrong, (80, 33) is right
    assert at_one == {"one": 2, "two": 1}


def test_linearised_experts_on_validation_normalise_the_choice_and_test_is_seen_last() -> None:
    """V as vector a, nothing as b: on validation the experts get 3/4 and 4/4, so 1 wins with (1 + 0.5) / 2 before 0.71
    and 0.67; by their 4/5 and 1/4 on test 0 would."""
    sets = {
        ("one", "validation"): [((10, 7), 1), ((10, 2), 1), ((10, 0), 1), ((0, 1), 1)],
        ("two", "validation"): [((10, 7), 0), ((10, 2), 0), ((10, 0), 0), ((10, 0), 0)],
        ("one", "test"): [((10, 7), 1), ((10, 2), 1), ((10, 2), 1), ((10, 2), 1), ((10, 0), 1)],
        ("two", "test"): [((10, 7), 1), ((10, 0), 0), ((10, 0), 1), ((10, 0), 1)],
    }
    session = LinearSession(sets, {"a": [[0.0, 0.0], [1.0, 0.0]], "b": [[0.0, 0.0], [0.0, 0.0]]})
    rows, found = posthoc.run(Posthoc(**FIELDS), session)
    alone = {(r["task"], r["split"]): (r["correct"], r["total"]) for r in rows if not r["operator"]}
    assert alone == {
        ("one", "validation"): (3, 4), ("one", "test"): (4, 5), ("two", "validation"): (4, 4), ("two", "test"): (1, 4),
    }  # fmt: skip
    merged = {r["task"]: (r["scaling"], r["correct"]) for r in rows if r["operator"] and r["split"] == "test"}
    assert merged == {"one": (1.0, 4), "two": (1.0, 2)}
    assert session.asked == [
        ("one", "validation"), ("one", "test"), ("two", "validation"), ("two", "test"),
        ("one", "validation"), ("two", "validation"), ("one", "test"), ("two", "test"),
    ]  # fmt: skip
    assert found == {"merged_norm": 1.0}


def test_experts_are_linearised_before_they_are_evaluated_alone() -> None:
    """(W x)^2 of (10, 2) at W = I + V is (100, 144) and, linearised at I, (100, 44)."""
    sets = {(task, split): [((10, 2), 1)] for task in ("one", "two") for split in ("validation", "test")}
    sets |= {(task, "validation"): [((10, 2), 1), ((1, 2), 1)] for task in ("one", "two")}
    vector = [[0.0, 0.0], [1.0, 0.0]]
    rows, _ = posthoc.run(Posthoc(**FIELDS), LinearSession(sets, {"a": vector, "b": vector}, tower=Squared()))
    alone = {(r["task"], r["split"]): r["correct"] for r in rows if not r["operator"]}
    assert alone == {(t, s): int(s == "validation") for t in ("one", "two") for s in ("validation", "test")}


def test_rows_of_linearised_experts_are_references_and_those_of_the_merge_are_not() -> None:
    rows, _ = posthoc.run(Posthoc(**FIELDS), LinearSession(SETS, VECTORS))
    said = {(r["operator"], r["board"], r["protocol"], r["finetuning"], r["seed"]) for r in rows}
    assert said == {
        ("", "reference", "", "att", 0),
        ("task_arithmetic", "validation-tuned", "validation:normalised", "att", 0),
    }


def test_strength_is_named_in_the_options() -> None:
    cell = Strength(**FIELDS, strength=0.3)
    session = LinearSession(SETS, VECTORS)
    session.expert_accuracy = lambda experts, split: {"one": 1.0, "two": 1.0}  # type: ignore[method-assign]
    rows, _ = strength.run(cell, session)
    assert {r["kind"] for r in rows} == {"strength"}
    assert {json.loads(r["options"])["strength"] for r in rows} == {0.3}
    assert strength.named([{"options": '{"density":0.2}'}], 1.0) == [{"options": '{"density":0.2,"strength":1.0}'}]
