"""Modifiers: each worked by hand, and composition by name."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from bench.checks.laws import broken, example
from methods.merging import MERGING
from methods.modifiers import MODIFIERS, resolve


def test_norm_match_by_hand():  # norms 5 and 15, mean 10
    a, b = {"w": tensor([3.0, 4.0])}, {"w": tensor([0.0, 15.0])}
    assert_close(resolve("task_arithmetic~norm_match").merge([a, b]), {"w": tensor([6.0, 18.0])})


def test_norm_match_uses_the_whole_vector_and_ignores_zero_vectors():
    a, b = {"w": tensor([3.0]), "v": tensor([4.0])}, {"w": tensor([0.0]), "v": tensor([0.0])}
    assert_close(resolve("task_arithmetic~norm_match").merge([a, b]), a)


def test_lines_by_hand():
    # |sum|_1 = 8; the average has |.|_1 = 4, so a = 8 / 4 / 2 = 1: block 0 times 1, block 2 of 3 times 1 + slope.
    a = {"t.0.w": tensor([2.0]), "t.1.w": tensor([0.0]), "t.2.w": tensor([2.0]), "proj": tensor([0.0])}
    b = {"t.0.w": tensor([1.0]), "t.1.w": tensor([1.0]), "t.2.w": tensor([1.0]), "proj": tensor([1.0])}
    merged = resolve("average~lines").merge([a, b], lines_slope=0.5)
    expected = {
        "t.0.w": tensor([1.5]),
        "t.1.w": tensor([0.5 * 1.25]),
        "t.2.w": tensor([1.5 * 1.5]),
        "proj": tensor([0.5]),
    }
    assert_close(merged, expected)


def test_lines_halves_a_sum_of_two():  # a = 1/T for task arithmetic
    a = {"t.0.w": tensor([2.0]), "t.1.w": tensor([2.0])}
    merged = resolve("task_arithmetic~lines").merge([a, a], lines_slope=1.0)
    assert_close(merged, {"t.0.w": tensor([2.0]), "t.1.w": tensor([6.0])})


def test_isotropise_makes_iso_c_of_a_sum():
    vectors = [{"w": x} for x in torch.randn(3, 6, 9, generator=torch.Generator().manual_seed(0))]
    assert_close(resolve("task_arithmetic~isotropise").merge(vectors), MERGING["iso_c"].merge(vectors))


def test_svc_by_hand():
    # Both tasks have e1 e1^T, task 1 also 3 e2 e2^T. The sum is diag(2, 3): along e1 each ratio is 2, so 2 -> 1.
    # Along e2 the ratios are 0 (nothing there, counts as floor 1/2) and 1: 3 / mean(1/2, 1) = 4.
    a, b = {"w": torch.diag(tensor([1.0, 0.0]))}, {"w": torch.diag(tensor([1.0, 3.0]))}
    assert_close(resolve("task_arithmetic~svc").merge([a, b]), {"w": torch.diag(tensor([1.0, 4.0]))})
    # The repository's rule leaves a direction in which some ratio is not positive.
    code = resolve("task_arithmetic~svc").merge([a, b], svc_rule="code")
    assert_close(code, {"w": torch.diag(tensor([1.0, 3.0]))})


def test_svc_leaves_embeddings_and_vectors():
    a = {"positional_embedding": torch.eye(2), "b": tensor([1.0])}
    merged = resolve("task_arithmetic~svc").merge([a, a])
    assert_close(merged, {"positional_embedding": 2 * torch.eye(2), "b": tensor([2.0])})


def test_modifiers_apply_from_left_to_right():
    vectors = example()
    first, second = resolve("task_arithmetic~isotropise~lines"), resolve("task_arithmetic~lines~isotropise")
    assert (first.name, second.name) == ("task_arithmetic~isotropise~lines", "task_arithmetic~lines~isotropise")
    name = "transformer.resblocks.1.attn.out_proj.weight"
    flat = torch.linalg.svdvals(second.merge(vectors)[name])
    assert_close(flat, flat.mean().expand_as(flat))
    assert not torch.equal(first.merge(vectors)[name], second.merge(vectors)[name])


@pytest.mark.parametrize("modifier", MODIFIERS)
@pytest.mark.parametrize("base", ["task_arithmetic", "ties", "dare", "tsv_m", "iso_c"])
def test_a_modified_operator_obeys_the_laws(base, modifier):
    assert broken(resolve(f"{base}~{modifier}")) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tsvm~lines", "no merging operator named 'tsvm'; did you mean 'tsv_m'"),
        ("tsv_m~line", "no modifier named 'line'; did you mean 'lines'"),
        ("tsv_m@split", "no space named 'split'; did you mean 'split_qkv'"),
        ("tsv_m~lines~lines", "already modified so"),
        ("emr~lines", "not applicable, emr merges to one model per task"),
    ],
)
def test_names_that_mean_nothing(name, message):
    with pytest.raises(ValueError, match=message):
        resolve(name, MERGING | {"emr": MERGING["ties"].with_(name="emr", per_task=True)})
