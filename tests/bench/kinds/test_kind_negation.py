"""Worked by hand: W = diag(1 - c, 1), so class 0 of a picture (x, y) is lost where (1 - c) x < y."""

from dataclasses import replace

import pytest
from linear_session import LinearSession

from bench.kinds import negation
from bench.kinds.negation import Negation
from bench.store.records import SCHEMA, Record

GRID = tuple(i / 20 for i in range(21))
CELL = Negation(
    suite="toy", backbone="toy", backbone_fingerprint="fp", task="apples", card="card", control="shapes",
    control_card="card", experts=("e",), finetuning="att", coefficients=GRID, keep=0.95, seed=3,
)  # fmt: skip
TAU = [[1.0, 0.0], [0.0, 0.0]]
SETS = {
    ("apples", "validation"): [((3, 2), 0), ((19, 10), 0), ((10, 1), 0)],  # lost above 1/3, 9/19, 9/10
    ("shapes", "validation"): [((5, 3), 0), ((10, 3), 0), *[((0, 1), 1)] * 18],  # lost above 2/5, 7/10
    ("apples", "test"): [((3, 2), 0), ((10, 1), 0)],
    ("shapes", "test"): [((10, 3), 0)],
}


def rows(finetuning: str = "att", **changed) -> list[dict]:
    found, metrics = negation.run(replace(CELL, finetuning=finetuning), LinearSession(SETS | changed, {"e": TAU}))
    assert metrics["scaling"] == next(r["scaling"] for r in found if r["split"] == "test")
    return found


def test_sweep_counts_target_and_control() -> None:
    found = {(r["task"], r["scaling"]): r["correct"] for r in rows() if r["split"] == "validation"}
    assert len(found) == 2 * 21
    assert [found["apples", c] for c in (0.0, 0.3, 0.35, 0.45, 0.5, 0.85, 0.95)] == [3, 3, 2, 2, 1, 1, 0]
    assert [found["shapes", c] for c in (0.0, 0.35, 0.45, 0.65, 0.75)] == [20, 20, 19, 19, 18]


def test_forgets_as_far_as_the_control_allows() -> None:
    """Control keeps 19 of 20 up to 0.7, so 0.95 with no apple left is out; one apple is left from 0.5 on."""
    found = rows()
    assert {r["scaling"] for r in found if r["selected"]} == {0.5}
    tested = {r["task"]: (r["correct"], r["total"], r["scaling"]) for r in found if r["split"] == "test"}
    assert tested == {"apples": (1, 2, 0.5), "shapes": (1, 1, 0.5)}


def test_nothing_is_subtracted_where_the_control_breaks_at_once() -> None:
    fragile = {("shapes", "validation"): [((100, 99), 0)]}
    assert {r["scaling"] for r in rows() if r["split"] == "test"} == {0.5}
    found, _ = negation.run(CELL, LinearSession(SETS | fragile, {"e": TAU}))
    assert {r["scaling"] for r in found if r["selected"]} == {0.0}


def test_tangent_experts_are_evaluated_as_tangent_models() -> None:
    """On a linear tower both evaluations give the same counts."""
    keep = ("task", "split", "scaling", "selected", "correct", "total", "bits")
    plain, tangent = ([{k: r[k] for k in keep} for r in rows(name)] for name in ("att", "tta"))
    assert plain == tangent


def test_only_the_chosen_coefficient_sees_the_test_split() -> None:
    session = LinearSession(SETS, {"e": TAU})
    found, _ = negation.run(CELL, session)
    assert session.asked == [("apples", "validation"), ("shapes", "validation"), ("apples", "test"), ("shapes", "test")]
    assert sum(r["split"] == "test" for r in found) == 2
    assert all(bool(r["bits"]) == (r["split"] == "test") for r in found)


def test_rows_fit_the_schema() -> None:
    found = rows()
    assert Record(CELL.key, CELL.identity, tuple(found)).table().schema.names == SCHEMA.names
    (protocol,) = {r["protocol"] for r in found}
    assert protocol == "validation:control>=0.95"
    same = {name: {r[name] for r in found} for name in ("kind", "tasks", "operator", "board", "finetuning", "seed")}
    assert same == {
        "kind": {"negation"}, "tasks": {"apples"}, "operator": {"negation"}, "board": {"validation-tuned"},
        "finetuning": {"att"}, "seed": {3},
    }  # fmt: skip


def test_one_expert_is_negated() -> None:
    with pytest.raises(ValueError, match="too many values"):
        negation.run(replace(CELL, experts=("e", "f")), LinearSession(SETS, {"e": TAU, "f": TAU}))
