"""One merge: what an operator is handed, and what it may hand back."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.work.merge import NotApplicable, merge
from methods.operator import Operator

DELTAS = {"a": {"w": torch.tensor([1.0])}, "b": {"w": torch.tensor([10.0])}}
PAIR = (torch.tensor([[2.0]]), torch.tensor([[3.0]]))


def vectors(key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return DELTAS[key], {"w": PAIR} if key == "a" else {}


def merged(function: Any, experts: str = "ab", *, given: Any = None, seed: int = 7, supply: Any = None, **how: Any):
    return merge(Operator("mine", function, **how), given or {}, vectors, experts, seed=seed, supply=supply)


def test_vectors_come_in_the_order_of_the_experts() -> None:
    assert [float(merged(lambda v: v[0], order)["w"]) for order in ("ab", "ba")] == [1.0, 10.0]


def test_options_and_seed_are_handed_on() -> None:
    def function(v: Any, *, seed: int, factor: float) -> dict[str, Tensor]:
        return {"w": v[0]["w"] * seed + factor}

    found = merged(function, given={"factor": 0.5}, random=True, grid={"factor": (0.25, 0.5)})
    assert found["w"].tolist() == [7.5]


def test_what_an_operator_needs_is_asked_for_with_the_vectors_at_hand() -> None:
    asked = []

    def supply(need: str, deltas: Any) -> str:
        asked.append((need, [float(d["w"]) for d in deltas]))
        return f"the {need}"

    given: dict[str, Any] = {}

    def function(v: Any, **inputs: Any) -> Any:
        given.update(inputs)
        return v[0]

    merged(function, needs=("grams", "entropy"), supply=supply)
    assert asked == [("grams", [1.0, 10.0]), ("entropy", [1.0, 10.0])]
    assert given == {"grams": "the grams", "entropy": "the entropy"}
    with pytest.raises(BenchError, match="mine: not applicable without 'fisher'"):
        merged(function, needs=("fisher",))


def test_factors_are_the_experts_own_and_all_must_have_them() -> None:
    given: dict[str, Any] = {}

    def function(v: Any, factors: Any) -> Any:
        given["factors"] = factors
        return v[0]

    merged(function, "aa", needs=("factors",))
    assert [pair["w"][0].item() for pair in given["factors"]] == [2.0, 2.0]
    with pytest.raises(NotApplicable, match="mine needs LoRA factors; these experts were fine-tuned without them"):
        merged(function, "ab", needs=("factors",))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("per_task", [False, True])
def test_what_is_not_finite_is_no_merge(value: float, per_task: bool) -> None:
    wrong = {"w": torch.tensor([value])}
    with pytest.raises(BenchError, match="mine returned NaN or infinity in w"):
        merged(lambda v: [v[0], wrong] if per_task else wrong, per_task=per_task)


def test_a_mistake_of_the_operator_is_one_line() -> None:
    def function(v: Any) -> Any:
        raise ValueError("mine: the experts are odd")

    with pytest.raises(BenchError, match="mine: the experts are odd"):
        merged(function)


def test_the_last_vectors_of_a_store_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.store import task_vectors
    from bench.work import merge

    monkeypatch.setattr(merge, "HELD", 2)
    data, reads = task_vectors.dump(DELTAS["a"], None, {}), []
    record = SimpleNamespace(metrics={"vector_sha256": task_vectors.sha256(data)})
    store = SimpleNamespace(read_vector=lambda key: reads.append(key) or data, read=lambda key: record, url="here")
    held = merge.Vectors(store)
    for key in ("x", "y", "x", "z", "x"):
        assert held(key)[0]["w"].tolist() == [1.0]
    assert reads == ["x", "y", "z", "x"]  # z took the place of x, which had been there longest
