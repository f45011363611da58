"""What `Operator.merge` refuses, and that it says which expert, tensor or option."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from methods.merging import MERGING
from methods.operator import Operator, steps
from methods.vectors import chunks, generator, norm, per_tensor, upcast

A = {"w": torch.ones(2, 3), "b": torch.ones(2)}


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        ([A, {"w": torch.ones(2, 3)}], {}, "first 'b' of expert 1 is only in the others"),
        ([A, {**A, "c": torch.ones(1)}], {}, "first 'c' of expert 1 is in no other"),
        ([A, {**A, "w": torch.ones(3, 2)}], {}, r"first 'w' is \(2, 3\) in expert 0 and \(3, 2\) in expert 1"),
        ([A, {**A, "b": tensor([1.0, float("nan")])}], {}, "'b' of expert 1 holds NaN or infinity"),
        ([A, {**A, "b": tensor([1, 2])}], {}, "'b' of expert 1 is torch.int64"),
        ([A], {"densty": 0.1}, "no option 'densty'; did you mean 'density'"),
        ([A], {"density": 0}, r"density=0 is outside \(0, 1\]"),
        ([A], {"density": 20}, r"density=20 is outside \(0, 1\]; it is a fraction, not a percentage"),
        ([A], {"density": float("nan")}, "not a finite number"),
        ([A], {"density": True}, "not a finite number"),
        ([A], {"scope": "layer"}, "option scope='layer' is not one of 'global', 'tensor', 'row'"),
        ([], {}, "needs at least 1 experts, got 0"),
    ],
)
def test_bad_input_is_one_line_that_names_the_culprit(vectors, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        MERGING["ties"].merge(vectors, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["task_arithmetic", "average"])
def test_linear_operators_find_nan_in_the_result_and_name_its_source(name):
    bad = {**A, "b": tensor([1.0, float("inf")])}
    with pytest.raises(ValueError, match="'b' of expert 1 holds NaN or infinity"):
        MERGING[name].merge([A, bad, {**A, "b": tensor([1.0, -float("inf")])}])
    huge = {"w": tensor([3e38])}  # a sum may overflow where every expert is finite
    assert MERGING["task_arithmetic"].merge([huge, huge])["w"].isinf()


def test_too_few_tasks_and_missing_needs():
    operator = Operator("demo", lambda vectors, grams: vectors[0], minimum_tasks=2, needs=("grams",))
    with pytest.raises(ValueError, match="not applicable without 'grams'"):
        operator.merge([A, A])
    with pytest.raises(ValueError, match="needs at least 2 experts, got 1"):
        operator.merge([A], grams={})


def test_an_operator_that_drops_a_tensor_is_caught():
    with pytest.raises(ValueError, match="returned other names than it was given, first 'b'"):
        Operator("demo", lambda vectors: {"w": vectors[0]["w"]}).merge([A])


def test_half_precision_is_computed_in_float32_and_cast_back():
    # 2048 + 1 + 1 + ... : float16 cannot count past 2048 in steps of one.
    vectors = [{"w": tensor([2048.0], dtype=torch.float16)}] + [{"w": tensor([1.0], dtype=torch.float16)}] * 4
    assert_close(MERGING["task_arithmetic"].merge(vectors), {"w": tensor([2052.0], dtype=torch.float16)})


def test_steps_print_as_asked_for():
    assert steps(0.3, 0.1) == (0.0, 0.1, 0.2, 0.3)


def test_per_tensor_stacks_tasks_first():
    assert_close(
        per_tensor(lambda deltas: deltas[1] - deltas[0])([A, A]), {"w": torch.zeros(2, 3), "b": torch.zeros(2)}
    )


def test_chunks_cover_every_entry_once_even_for_scalars():
    x = {"w": torch.arange(10.0), "s": tensor(3.0)}
    assert_close(torch.cat(list(chunks([x, x], "w", size=4)), dim=1)[0], x["w"])
    assert [piece.shape for piece in chunks([x, x], "s")] == [(2, 1)]
    reused = [piece.clone() for piece in chunks([x, x], "w", size=4, reuse=True, dtype=torch.float64)]
    assert torch.equal(torch.cat(reused, dim=1)[1], x["w"].reshape(-1).double())
    for piece in chunks([x, x], "w", size=4, reuse=True):
        piece.zero_()  # a buffer of its own: the vectors stay
    assert x["w"].any()


def test_norm_and_upcast():
    assert norm({"a": tensor([3.0]), "b": tensor([4.0])}) == 5.0
    assert upcast({"a": torch.ones(1, dtype=torch.bfloat16)})["a"].dtype == torch.float32
    assert upcast({"a": torch.ones(1, dtype=torch.float64)})["a"].dtype == torch.float64


def test_generators_depend_on_seed_and_purpose_only():
    draw = lambda *what: torch.rand(3, generator=generator(*what))  # noqa: E731
    assert torch.equal(draw(0, "a", 1), draw(0, "a", 1))
    assert not torch.equal(draw(0, "a", 1), draw(1, "a", 1))
    assert not torch.equal(draw(0, "a", 1), draw(0, "a", 2))
