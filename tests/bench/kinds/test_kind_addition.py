"""Worked by hand: W = I + c V with V = [[0, 0], [1, 0]], so (10, y) is in class 1 where y + 10 c > 10.

Pictures by the coefficients 0, 0.5, 1 at which they are in class 1: (10, 7) at 0.5 and 1, (10, 2) at 1, (10, 0) never.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from linear_session import LinearSession, Squared

from bench.kinds import addition
from bench.kinds.addition import Addition
from bench.kinds.rows import seed_of
from bench.store.records import SCHEMA, Record
from bench.work import inputs
from bench.work.coefficients import COARSE
from methods.operator import Operator

CELL = Addition(
    suite="toy", backbone="tower", backbone_fingerprint="fp", tasks=(("one", "card 1"), ("two", "card 2")),
    experts=("a", "b"), finetuning="att", operator="task_arithmetic", version=1, options="{}",
    coefficients=(0.0, 0.5, 1.0), board="validation-tuned", seed=3,
)  # fmt: skip
V = [[0.0, 0.0], [1.0, 0.0]]
VECTORS = {"a": V, "b": [[0.0, 0.0], [0.0, 0.0]]}
SETS = {
    ("one", "validation"): [((10, 7), 1), ((10, 2), 1), ((10, 0), 1), ((0, 1), 1)],  # 1, 2, 3 right
    ("two", "validation"): [((10, 7), 0), ((10, 2), 0), ((10, 0), 0), ((10, 0), 0)],  # 4, 3, 2 right
    ("one", "test"): [((10, 7), 1), ((10, 2), 1), ((10, 2), 1), ((10, 2), 1), ((10, 0), 1)],  # 0, 1, 4 right
    ("two", "test"): [((10, 7), 0), ((10, 2), 0), ((10, 0), 0)],  # 3, 2, 1 right
    ("one", "train"): [((1, 1), 0)],
    ("two", "train"): [((1, 1), 1)],
}
LAST, FIRST = {"one": 0.5, "two": 1.0}, {"one": 1.0, "two": 0.5}
"""References under which the last and the first coefficient win: means 0.75, 0.875, 1 and 1.125, 1, 0.875."""


def session(**how: Any) -> LinearSession:
    return LinearSession(SETS, VECTORS, **{"accuracy": {"validation": LAST, "test": FIRST}} | how)


def counts(rows: list[dict], split: str) -> dict:
    return {(r["task"], r["scaling"]): (r["correct"], r["total"]) for r in rows if r["split"] == split}


class Probe:
    """The sum of the task vectors, by an operator that keeps what it was given."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def __call__(self, vectors: Any, **given: Any) -> dict[str, torch.Tensor]:
        self.given = given
        return {name: sum(vector[name] for vector in vectors) for name in vectors[0]}

    def run(self, cell: Addition = CELL, how: dict[str, Any] | None = None, **record: Any) -> LinearSession:
        found = session(operators=[Operator("probe", self, **record)], **how or {})
        self.rows, _ = addition.run(replace(cell, operator="probe"), found)
        return found


def test_every_coefficient_has_validation_counts_and_the_chosen_one_test_counts() -> None:
    rows, found = addition.run(CELL, session())
    assert counts(rows, "validation") == {
        ("one", 0.0): (1, 4), ("one", 0.5): (2, 4), ("one", 1.0): (3, 4),
        ("two", 0.0): (4, 4), ("two", 0.5): (3, 4), ("two", 1.0): (2, 4),
    }  # fmt: skip
    assert counts(rows, "test") == {("one", 1.0): (4, 5), ("two", 1.0): (1, 3)}
    assert len(rows) == 8
    assert found == {"merged_norm": 1.0}


def test_validation_chooses_and_the_test_split_is_looked_at_once_afterwards() -> None:
    asked = session()
    addition.run(CELL, asked)
    assert asked.asked == [("one", "validation"), ("two", "validation"), ("one", "test"), ("two", "test")]
    assert asked.cards == [("one", "card 1"), ("two", "card 2")] * 2


@pytest.mark.parametrize(("reference", "other", "chosen"), [(LAST, FIRST, 1.0), (FIRST, LAST, 0.0)])
def test_the_choice_is_normalised_by_the_experts_on_validation(reference: dict, other: dict, chosen: float) -> None:
    asked = session(accuracy={"validation": reference, "test": other})
    rows, _ = addition.run(CELL, asked)
    assert asked.referred == [(("a", "b"), "validation")]
    assert {r["scaling"] for r in rows if r["split"] == "test"} == {chosen}


def test_a_reference_that_is_given_is_the_one() -> None:
    asked = session(accuracy=None)
    rows, _ = addition.run(CELL, asked, reference=FIRST)
    assert {r["scaling"] for r in rows if r["split"] == "test"} == {0.0}
    assert asked.referred == []


def test_only_the_chosen_coefficients_rows_are_selected() -> None:
    rows, _ = addition.run(CELL, session())
    said = {(r["split"], r["task"], r["scaling"]): r["selected"] for r in rows}
    assert said == {
        ("validation", task, scaling): scaling == 1.0 for task in ("one", "two") for scaling in CELL.coefficients
    } | {("test", "one", 1.0): True, ("test", "two", 1.0): True}


def test_bits_are_those_of_the_test_at_the_chosen_coefficient() -> None:
    rows, _ = addition.run(CELL, session())
    bits = {r["task"]: r["bits"] for r in rows if r["split"] == "test"}
    assert bits == {"one": bytes([0b11110000]), "two": bytes([0b00100000])}
    assert {r["bits"] for r in rows if r["split"] == "validation"} == {b""}


def test_a_row_says_what_was_merged_how() -> None:
    cell = replace(CELL, board="calibration", finetuning="att+orthoreg", options='{"keep":0.5}', operator="probe")
    op = Operator("probe", Probe(), grid={"keep": (0.2, 0.5)})
    rows, _ = addition.run(cell, session(operators=[op]))
    same = {
        "kind": "addition", "suite": "toy", "backbone": "tower", "finetuning": "att+orthoreg", "operator": "probe",
        "options": '{"keep":0.5}', "board": "calibration", "protocol": "validation:normalised", "tasks": "one+two",
        "seed": 3,
    }  # fmt: skip
    assert [{name: r[name] for name in same} for r in rows] == [same] * 8
    assert Record(cell.key, cell.identity, tuple(rows)).table().schema.names == SCHEMA.names


def test_one_coefficient_is_tested_without_a_look_at_validation() -> None:
    asked = session(accuracy=None)
    rows, _ = addition.run(replace(CELL, coefficients=(0.5,), board="data-free"), asked)
    assert counts(rows, "test") == {("one", 0.5): (1, 5), ("two", 0.5): (2, 3)}
    assert asked.asked == [("one", "test"), ("two", "test")]
    assert {(r["split"], r["protocol"], r["selected"], r["board"]) for r in rows} == {
        ("test", "fixed", True, "data-free")
    }


@pytest.mark.parametrize(
    ("needs", "changed", "said"),
    [
        ((), {}, "validation:normalised"),
        ((), {"coefficients": (1.0,)}, "fixed"),
        ((), {"sweep": COARSE}, "validation:normalised:coarse-to-fine"),
        (("factors",), {}, "validation:normalised"),
        (("grams",), {}, "validation:normalised; 256 unlabelled training images a task"),
        (("grams_of",), {"coefficients": (1.0,)}, "fixed; 256 unlabelled training images a task"),
        (("entropy",), {"coefficients": (1.0,)}, "fixed; unlabelled test images"),
        (("fisher",), {}, "validation:normalised; 256 training images a task, labels sampled from the expert"),
    ],
)
def test_the_protocol_is_what_was_seen(needs: tuple[str, ...], changed: dict, said: str) -> None:
    assert addition.protocol(replace(CELL, **changed), needs) == said


def test_an_operator_gets_its_own_options_and_the_seed_of_its_name_and_index() -> None:
    probe = Probe()
    for index in (3, 4):
        probe.run(replace(CELL, options='{"keep":0.5}', seed=index), grid={"keep": (0.2, 0.5)}, random=True)
        assert probe.given == {"keep": 0.5, "seed": seed_of("merge", "probe", index)}


def test_calibration_is_on_training_images() -> None:
    """(1, 1): z = (1, 1) / sqrt 2, both classes at 1/2, so d log p / d W = (1/2, -1/2) / sqrt 2 times (1, 1) or minus
    that, whichever label is drawn; no picture of validation or test has the square 1/8 everywhere."""
    probe = Probe()
    asked = probe.run(replace(CELL, experts=("b", "b"), coefficients=(1.0,)), needs=("fisher",))
    for information in probe.given["fisher"]:
        torch.testing.assert_close(information["w"], torch.full((2, 2), 1 / 8))
    assert set(asked.asked[: -len(CELL.tasks)]) == {("one", "train"), ("two", "train")}
    assert asked.asked[-2:] == [("one", "test"), ("two", "test")]
    assert {r["protocol"] for r in probe.rows} == {"fixed; " + inputs.SAW["fisher"]}


def entropy_of(*features: float) -> float:
    """Of a softmax over the features, normalised."""
    size = math.hypot(*features)
    powers = [math.exp(f / size) for f in features]
    return -sum(p / sum(powers) * math.log(p / sum(powers)) for p in powers)


def test_entropies_are_of_test_images() -> None:
    """W = I: the features of a picture are the picture. The first sixteen, taken in turn: of five, one more of the
    first; of three likewise."""
    probe = Probe()
    asked = probe.run(replace(CELL, coefficients=(1.0,)), needs=("entropy",))
    found = probe.given["entropy"]({"w": torch.zeros(2, 2)}, 0)
    one = (4 * entropy_of(10, 7) + 9 * entropy_of(10, 2) + 3 * entropy_of(10, 0)) / 16
    two = (6 * entropy_of(10, 7) + 5 * entropy_of(10, 2) + 5 * entropy_of(10, 0)) / 16
    assert float(found) == pytest.approx(one + two, abs=1e-6)
    assert {split for _, split in asked.asked} == {"test"}


@pytest.mark.parametrize(("finetuning", "features"), [("att", (100, 144)), ("tta+orthoreg", (100, 44))])
def test_entropies_of_tangent_experts_are_of_tangent_models(finetuning: str, features: tuple[float, ...]) -> None:
    """(W x)^2 of (10, 2) at W = I + V, and its linearisation at I."""
    probe, sets = Probe(), SETS | {(task, "test"): [((10, 2), 1)] for task in ("one", "two")}
    operators = [Operator("probe", probe, needs=("entropy",))]
    cell = replace(CELL, coefficients=(1.0,), finetuning=finetuning, operator="probe")
    rows, _ = addition.run(cell, LinearSession(sets, VECTORS, tower=Squared(), operators=operators))
    found = probe.given["entropy"]({"w": torch.tensor(V)}, 0)
    assert float(found) == pytest.approx(2 * entropy_of(*features), abs=1e-6)
    assert [r["correct"] for r in rows] == [features[1] > features[0]] * 2


def test_a_tangent_sweep_is_one_pass_over_validation_and_one_over_test() -> None:
    """(W x)^2, linearised: (10, y) gives (100, y^2 + 20 c y): (10, 7) is in class 1 at 0.5 and 1, (10, 2) never."""
    asked = session(tower=Squared())
    rows, _ = addition.run(replace(CELL, finetuning="tta"), asked)
    assert {k: v for k, (v, _) in counts(rows, "validation").items()} == {
        ("one", 0.0): 1, ("one", 0.5): 2, ("one", 1.0): 2, ("two", 0.0): 4, ("two", 0.5): 3, ("two", 1.0): 3,
    }  # fmt: skip
    assert {r["scaling"] for r in rows if r["selected"]} == {0.5}
    assert counts(rows, "test") == {("one", 0.5): (1, 5), ("two", 0.5): (2, 3)}
    assert asked.asked == [("one", "validation"), ("two", "validation"), ("one", "test"), ("two", "test")]


def test_an_operator_that_knows_the_task_has_one_vector_for_each() -> None:
    """Task one moves by V, task two by nothing."""
    op = Operator("own", lambda vectors: vectors, per_task=True, board="task-id")
    rows, found = addition.run(replace(CELL, operator="own", board="task-id"), session(operators=[op]))
    assert {k: v for k, (v, _) in counts(rows, "validation").items()} == {
        ("one", 0.0): 1, ("one", 0.5): 2, ("one", 1.0): 3, ("two", 0.0): 4, ("two", 0.5): 4, ("two", 1.0): 4,
    }  # fmt: skip
    assert counts(rows, "test") == {("one", 1.0): (4, 5), ("two", 1.0): (3, 3)}
    assert found == {"merged_norm": 1.0}


def test_the_norm_is_over_all_of_what_was_merged() -> None:
    three, four = {"w": torch.tensor([[3.0]]), "v": torch.tensor([2.0, 2.0])}, {"w": torch.tensor([[-4.0]])}
    assert addition.norm(three) == pytest.approx(math.sqrt(9 + 8))
    assert addition.norm([three, four]) == pytest.approx(math.sqrt(9 + 8 + 16))


def test_an_operator_that_cannot_take_the_experts_leaves_no_row() -> None:
    asked = session(operators=[Operator("probe", Probe(), needs=("factors",))])
    rows, found = addition.run(replace(CELL, operator="probe"), asked)
    assert rows == []
    assert found["not_applicable"].startswith("probe needs LoRA factors")
    assert asked.asked == asked.referred == []
