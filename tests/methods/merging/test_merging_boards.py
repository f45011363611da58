"""Operators that see more than task vectors, each by hand."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from methods.merging import MERGING
from methods.vectors import generator


def test_regmean_by_hand():
    # Task 1 reads input 1 only, task 2 input 2 only: each keeps the column its task reads. Biases are averaged.
    a, b = {"w": tensor([[2.0, 7.0]]), "b": tensor([1.0])}, {"w": tensor([[9.0, 4.0]]), "b": tensor([3.0])}
    grams = [{"w": torch.diag(tensor([1.0, 0.0]))}, {"w": torch.diag(tensor([0.0, 1.0]))}]
    merged = MERGING["regmean"].merge([a, b], grams=grams, ridge=0.0)
    assert_close(merged, {"w": tensor([[2.0, 4.0]]), "b": tensor([2.0])})


def test_regmean_is_the_least_squares_fit_to_the_experts_outputs():
    x = [torch.randn(50, 4, generator=generator(t)).double() for t in range(2)]
    w = [torch.randn(3, 4, generator=generator(9, t)).double() for t in range(2)]
    grams = [{"w": i.T @ i / 50} for i in x]
    merged = MERGING["regmean"].merge([{"w": v} for v in w], grams=grams, off_diagonal=1.0, ridge=0.0)["w"]
    outputs = torch.cat([i @ v.T for i, v in zip(x, w, strict=True)])
    assert_close(merged.T, torch.linalg.lstsq(torch.cat(x), outputs).solution)


def test_regmean_scales_off_diagonals_and_takes_proj_by_rows_and_kernels_flat():
    g = tensor([[2.0, 1.0], [1.0, 2.0]])
    a, b = torch.randn(2, 3, 2, generator=generator(0))
    half = tensor([[2.0, 0.5], [0.5, 2.0]])
    expected = (a @ half + b) @ torch.linalg.inv(half + torch.eye(2))
    grams = [{"w": g}, {"w": torch.eye(2)}]
    merged = MERGING["regmean"].merge([{"w": a}, {"w": b}], grams=grams, off_diagonal=0.5, ridge=0.0)["w"]
    assert_close(merged, expected)
    named = [{"proj": x["w"]} for x in grams]
    merged = MERGING["regmean"].merge([{"proj": a.T}, {"proj": b.T}], grams=named, off_diagonal=0.5, ridge=0.0)
    assert_close(merged["proj"], expected.T)
    kernels = [{"w": x.reshape(3, 2, 1, 1)} for x in (a, b)]
    merged = MERGING["regmean"].merge(kernels, grams=grams, off_diagonal=0.5, ridge=0.0)["w"]
    assert_close(merged, expected.reshape(3, 2, 1, 1))


def test_regmean_with_a_dead_input_stays_finite_and_wrong_grams_are_refused():
    vectors = [{"w": torch.ones(2, 3)}, {"w": 3 * torch.ones(2, 3)}]
    dead = torch.diag(tensor([1.0, 1.0, 0.0]))
    assert torch.isfinite(MERGING["regmean"].merge(vectors, grams=[{"w": dead}] * 2)["w"]).all()
    assert_close(MERGING["regmean"].merge(vectors, grams=[{"w": 0 * dead}] * 2)["w"], 2 * torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"regmean: a Gram matrix is \(2, 2\), the layer has 3 inputs"):
        MERGING["regmean"].merge(vectors, grams=[{"w": torch.eye(2)}] * 2)
    with pytest.raises(ValueError, match="1 of 2 experts have a Gram matrix for 'w'"):
        MERGING["regmean"].merge(vectors, grams=[{"w": torch.eye(3)}, {}])


def test_regmean_pp_asks_block_by_block_with_everything_merged_so_far():
    names = ("ln.b", "h.0.w", "h.1.w", "proj")
    vectors = [{n: torch.full((2, 2) if n != "ln.b" else (2,), v) for n in names} for v in (1.0, 3.0)]
    asked = []

    def grams_of(merged, task, block):
        asked.append((block, task, sorted(merged)))
        name = {0: "h.0.w", 1: "h.1.w", 2: "proj"}[block]
        # In block 1 task 0 counts three times as much if block 0 was merged to 2, as it must have been.
        weight = float(merged["h.0.w"][0, 0]) + 1 if block == 1 and task == 0 else 1.0
        return {name: weight * torch.eye(2)}

    merged = MERGING["regmean_pp"].merge(vectors, grams_of=grams_of, ridge=0.0)
    start = ["ln.b", "proj"]
    first, second = ["h.0.w", "ln.b", "proj"], ["h.0.w", "h.1.w", "ln.b", "proj"]
    assert asked == [(0, 0, start), (0, 1, start), (1, 0, first), (1, 1, first), (2, 0, second), (2, 1, second)]
    assert_close(merged["h.0.w"], torch.full((2, 2), 2.0))
    assert_close(merged["h.1.w"], torch.full((2, 2), (3 * 1 + 3) / 4))
    assert_close(merged["ln.b"], torch.full((2,), 2.0))


def test_fisher_by_hand():
    a, b = {"w": tensor([1.0, 1.0, 1.0])}, {"w": tensor([5.0, 5.0, 5.0])}
    fisher = [{"w": tensor([3.0, 1.0, 0.0])}, {"w": tensor([1.0, 1.0, 0.0])}]
    merged = MERGING["fisher"].merge([a, b], fisher=fisher, normalise=False)
    assert_close(merged, {"w": tensor([2.0, 3.0, 3.0])})  # where nobody knows anything: the average


def test_fisher_normalised_ignores_the_size_of_an_experts_gradients():
    a, b = {"w": tensor([1.0, 1.0])}, {"w": tensor([5.0, 5.0])}
    fisher = [{"w": tensor([3.0, 4.0])}, {"w": tensor([300.0, 400.0])}]
    assert_close(MERGING["fisher"].merge([a, b], fisher=fisher), {"w": tensor([3.0, 3.0])})
    with pytest.raises(ValueError, match="expert 1 has no Fisher information of the shape of 'w'"):
        MERGING["fisher"].merge([a, b], fisher=[fisher[0], {"w": torch.ones(3)}])


def quadratic(target):
    return lambda merged, step: sum((merged[n] - target[n]).square().sum() for n in target)


def test_adamerging_finds_the_coefficients():
    # Orthogonal tasks; the objective is least at 0.8 a + 0.1 b.
    a, b = {"w": tensor([1.0, 0.0])}, {"w": tensor([0.0, 1.0])}
    entropy = quadratic({"w": tensor([0.8, 0.1])})
    merged = MERGING["adamerging_task"].merge([a, b], entropy=entropy, iterations=1500, learning_rate=1e-2)
    assert_close(merged, {"w": tensor([0.8, 0.1])}, rtol=0, atol=1e-3)


def test_adamerging_coefficients_are_shared_or_per_tensor_and_clamped():
    a = {"v": tensor([1.0]), "w": tensor([1.0])}
    entropy = quadratic({"v": tensor([0.2]), "w": tensor([1.6])})
    run = {"entropy": entropy, "iterations": 1500, "learning_rate": 1e-2}
    task = MERGING["adamerging_task"].merge([a], **run)
    assert_close(task, {"v": tensor([0.9]), "w": tensor([0.9])}, rtol=0, atol=1e-3)
    layer = MERGING["adamerging_layer"].merge([a], **run)
    assert_close(layer, {"v": tensor([0.2]), "w": tensor([1.0])}, rtol=0, atol=1e-3)  # 1.6 clamped
    free = MERGING["adamerging_layer"].merge([a], clamp=False, **run)
    assert_close(free, {"v": tensor([0.2]), "w": tensor([1.6])}, rtol=0, atol=1e-3)


def test_adamerging_first_step_is_one_learning_rate_of_adam():
    a, b = {"w": tensor([1.0, 0.0])}, {"w": tensor([0.0, 1.0])}
    entropy = quadratic({"w": tensor([1.0, 0.0])})
    merged = MERGING["adamerging_task"].merge([a, b], entropy=entropy, iterations=1, learning_rate=0.05)
    assert_close(merged, {"w": tensor([0.35, 0.25])})


def test_adamerging_pp_trims_and_elects_before_it_learns():
    # Density 1/2 keeps 4, -3 of a and 2, 5 of b; the elected signs are +, +, so -3 goes.
    a, b = {"w": tensor([4.0, -3.0, 1.0, 0.0])}, {"w": tensor([2.0, 5.0, -0.5, 0.0])}
    flat = quadratic({"w": torch.zeros(4)})
    merged = MERGING["adamerging_pp_task"].merge(
        [a, b], entropy=flat, iterations=1, learning_rate=1e-9, density=0.5, start=0.5
    )
    assert_close(merged, {"w": 0.5 * tensor([6.0, 5.0, 0.0, 0.0])})


def test_adamerging_passes_the_step_and_tolerates_unused_tensors():
    steps = []

    def entropy(merged, step):
        steps.append(step)
        return merged["w"].sum()

    MERGING["adamerging_layer"].merge([{"w": tensor([1.0]), "v": tensor([1.0])}], entropy=entropy, iterations=3)
    assert steps == [0, 1, 2]


def test_emr_by_hand():
    # Sum (2, 1): unified (3, 4). Task 1 agrees in the first entry, task 2 in the second.
    a, b = {"w": tensor([3.0, -3.0])}, {"w": tensor([-1.0, 4.0])}
    first, second = MERGING["emr"].merge([a, b])
    assert_close(first, {"w": tensor([3.0, 0.0]) * 2})  # |a| = 6 against 3 left
    assert_close(second, {"w": tensor([0.0, 4.0]) * 5 / 4})


def test_emr_rescaler_by_tensor_means_or_over_the_model():
    a = {"small": tensor([2.0]), "large": tensor([1.0, 1.0, 1.0, 1.0])}
    b = {"small": tensor([1.0]), "large": tensor([-2.0, -2.0, -2.0, -2.0])}
    # Task 1 keeps only `small`: by means (2 + 1) / 2, over the model (2 + 4) / 2.
    assert_close(MERGING["emr"].merge([a, b])[0]["small"], tensor([3.0]))
    assert_close(MERGING["emr"].merge([a, b], rescaler="model")[0]["small"], tensor([6.0]))


def test_tall_mask_by_hand():
    a, b = {"w": tensor([4.0, 2.0])}, {"w": tensor([1.0, -1.0])}  # sum (5, 1)
    first, second = MERGING["tall_mask"].merge([a, b])
    assert_close(first, {"w": tensor([5.0, 1.0])})
    assert_close(second, {"w": tensor([0.0, 1.0])})  # |1| > 0.4 * 4 fails


def test_every_board_is_there_and_says_what_it_needs():
    boards = {}
    for operator in MERGING.values():
        boards.setdefault(operator.board, []).append(operator.name)
    assert boards["calibration"] == ["regmean", "regmean_pp", "fisher"]
    assert boards["unlabelled-test"] == [
        "adamerging_task",
        "adamerging_layer",
        "adamerging_pp_task",
        "adamerging_pp_layer",
    ]
    assert boards["task-id"] == ["emr", "tall_mask"]
    assert all(not MERGING[name].needs for name in boards["data-free"])
    assert all(MERGING[name].per_task for name in boards["task-id"])
