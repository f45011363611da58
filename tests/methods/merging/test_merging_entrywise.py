"""Operators that work entry by entry or by global rank, each against values worked by hand."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from methods.merging import MERGING, dare, della, ties
from methods.merging.della import as_rows
from methods.vectors import generator


def merge(name, *tensors, **options):
    return MERGING[name].merge([{"w": x} for x in tensors], **options)["w"]


# DARE


def test_dare_keeps_the_stated_share_and_divides_by_it():
    x = torch.ones(400, 500)
    kept = dare.sparsify(x, 0.9, "inverse", generator(0))
    share = dare.kept_levels(0.9) / 65536
    assert_close(kept[kept != 0], torch.full_like(kept[kept != 0], 1 / share))
    assert abs(float((kept != 0).float().mean()) - 0.1) < 5 * (0.09 / x.numel()) ** 0.5


@pytest.mark.parametrize(("rescale", "total"), [("l1", 1000.0), ("none", None)])
def test_dare_rescale_rules(rescale, total):
    x = torch.ones(1000)
    kept = dare.sparsify(x, 0.5, rescale, generator(0))
    if total is None:
        assert set(kept.unique().tolist()) == {0.0, 1.0}
    else:
        assert_close(kept.sum(), tensor(total))


def test_dare_without_dropping_is_task_arithmetic():
    a, b = torch.randn(2, 7, 5, generator=generator(0))
    assert_close(merge("dare", a, b, drop=0.0), a + b)


def test_dare_masks_differ_between_tasks_tensors_and_seeds():
    def pattern(name, task, seed):
        return dare.sparsify(torch.ones(256), 0.5, "none", generator(seed, "dare", task, name))

    same = pattern("w", 0, 0)
    assert torch.equal(same, pattern("w", 0, 0))
    for other in (pattern("v", 0, 0), pattern("w", 1, 0), pattern("w", 0, 1)):
        assert 0.3 < float((same == other).float().mean()) < 0.7


def test_dare_draws_the_same_numbers_in_pieces():
    x = torch.arange(1.0, 2 * dare.PIECE + 4)  # three pieces, the last one not a multiple of four
    whole = dare.sparsify(x, 0.5, "none", generator(0))
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=generator(0))
    assert torch.equal(whole, x * (words.view(torch.int16)[: x.numel()] < 0))


def test_dare_ties_drops_first_then_trims():
    x = torch.ones(1000)
    merged = merge("dare_ties", x, drop=0.5, density=0.2)
    assert set(merged.unique().tolist()) == {0.0, 2.0}  # all survivors tie with the threshold and are kept
    assert_close(merge("dare_ties", tensor([4.0, -3.0, 1.0]), drop=0.0, density=2 / 3), tensor([4.0, -3.0, 0.0]))


# DELLA


def rank_share(x):
    return della.chances(as_rows(x), lambda share: share).view(x.shape)


def test_della_ranks_by_magnitude_within_rows():
    x = tensor([[1.0, -2.0, 4.0, -8.0], [8.0, 4.0, 2.0, 1.0]])
    expected = tensor([[0.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 0.0]]) / 3
    assert_close(rank_share(x), expected)
    assert_close(rank_share(tensor([[2.0, 2.0, 1.0]])), tensor([[0.75, 0.75, 0.0]]))  # ties share the middle
    assert_close(rank_share(tensor(3.0)), tensor(0.5))
    assert_close(rank_share(torch.ones(3, 1)), torch.full((3, 1), 0.5))


def test_della_ranks_are_those_of_a_sort_but_for_close_magnitudes():
    x = torch.randn(8, 768, generator=generator(0))
    exact = x.abs().argsort(dim=1).argsort(dim=1) / 767
    assert (rank_share(x) - exact).abs().max() < 0.02


def test_della_is_unbiased():
    x = torch.randn(1, 64, generator=generator(1))
    draws = torch.stack([della.sparsify(x, 0.5, 0.3, "inverse", generator(seed)) for seed in range(4000)])
    assert_close(draws.mean(dim=0), x, rtol=0, atol=0.2)


def test_della_keeps_large_entries_more_often():
    x = torch.arange(1.0, 101.0)[None]
    kept = torch.stack([della.sparsify(x, 0.5, 0.4, "none", generator(seed))[0] != 0 for seed in range(400)]).float()
    assert_close(kept[:, :10].mean(), tensor(0.136), rtol=0, atol=0.03)  # 0.1 + 0.8 * mean rank share 4.5 / 99
    assert_close(kept[:, 90:].mean(), tensor(0.864), rtol=0, atol=0.03)


def test_della_refuses_an_epsilon_that_leaves_the_unit_interval():
    with pytest.raises(ValueError, match=r"della: density 0.1 \+- epsilon 0.15 leaves"):
        merge("della", torch.ones(3), density=0.1)


# Model Breadcrumbs


def test_breadcrumbs_by_hand():
    # Ten entries, top 10 % removes 10, the next 30 % are 9, 8, 7.
    x = tensor([1.0, -10.0, 9.0, 2.0, -8.0, 3.0, 4.0, 5.0, 7.0, -6.0])
    expected = tensor([0.0, 0.0, 9.0, 0.0, -8.0, 0.0, 0.0, 0.0, 7.0, 0.0])
    assert_close(merge("breadcrumbs", x, density=0.3, top=0.1), expected)
    assert_close(merge("breadcrumbs", x, x, density=0.3, top=0.1), 2 * expected)


def test_breadcrumbs_scope_row_or_tensor():
    x = tensor([[4.0, 3.0], [2.0, 1.0]])
    assert_close(merge("breadcrumbs", x, density=0.5, top=0.0), tensor([[4.0, 0.0], [2.0, 0.0]]))
    whole = merge("breadcrumbs", x, density=0.5, top=0.0, scope="tensor")
    assert_close(whole, tensor([[4.0, 3.0], [0.0, 0.0]]))
    assert_close(merge("breadcrumbs", x, density=0.5, top=0.25, scope="tensor"), tensor([[0.0, 3.0], [2.0, 0.0]]))


@pytest.mark.parametrize("scope", ["row", "tensor"])
def test_breadcrumbs_never_erases_a_tiny_tensor(scope):
    # mergekit's slice [n_bottom : -n_top] is empty for n_top = 0; the official int(n * density) is 0.
    assert_close(merge("breadcrumbs", tensor([5.0]), density=0.1, top=0.9, scope=scope), tensor([5.0]))
    assert_close(merge("breadcrumbs", tensor(5.0), scope=scope), tensor(5.0))


# MagMax, Model Stock, SCE


def test_magmax_by_hand():
    a, b = tensor([1.0, -4.0, 2.0, -3.0]), tensor([-2.0, 3.0, -2.0, -1.0])
    assert_close(merge("magmax", a, b), tensor([-2.0, -4.0, 2.0, -3.0]))  # 2 and -2 tie: the positive one


def test_model_stock_by_hand():
    # Angle 60 degrees, cosine 1/2, T = 2: t = 2 * 0.5 / 1.5 = 2/3 of the mean.
    a, b = tensor([1.0, 0.0]), tensor([0.5, math.sqrt(3) / 2])
    assert_close(merge("model_stock", a, b), (a + b) / 3)
    assert_close(merge("model_stock", a, a), a)
    assert_close(merge("model_stock", tensor([1.0, 0.0]), tensor([0.0, 1.0])), torch.zeros(2))
    assert_close(merge("model_stock", a, -a), torch.zeros(2))  # negative cosines count as orthogonal


def test_model_stock_mean_of_cosines_or_of_angles():
    # Angles 0, 90, 90: mean cosine 1/3, so t = 3 * (1/3) / (1 + 2/3) = 0.6; mean angle 60 degrees, t = 1.5 / 2 = 0.75.
    x, y = tensor([1.0, 0.0]), tensor([0.0, 1.0])
    assert_close(merge("model_stock", x, x, y), 0.6 * tensor([2.0, 1.0]) / 3)
    assert_close(merge("model_stock", x, x, y, angle_mean="angle"), 0.75 * tensor([2.0, 1.0]) / 3)


def test_sce_by_hand():
    # Energies 25 / 2 and 5 / 2 give weights 5/6 and 1/6. Signs + and +: entry 1 loses the second task.
    a, b = tensor([3.0, 4.0]), tensor([1.0, -2.0])
    assert_close(merge("sce", a, b), tensor([(5 * 3 + 1) / 6, 4.0]))


def test_sce_selects_by_variance_and_keeps_what_does_not_vary():
    # Variances 0, 1, 4: density 1/2 of the two that vary keeps the last; then energies 4 and 0.
    a, b = tensor([9.0, 2.0, 4.0]), tensor([9.0, 0.0, 0.0])
    assert_close(merge("sce", a, b, density=0.5), tensor([0.0, 0.0, 4.0]))
    assert_close(merge("sce", a, a, density=0.1), a)


# Consensus


def test_consensus_by_hand():
    # Sum (5, 1, 0). Entry 0: |4| > .4 |1| and |1| > .4 |4| fails at 1 > 1.6: one task uses it. Entry 1: |2| > .4 |-1|,
    # |-1| > .4 |2|: both. Entry 2: |1| > .4 |-1|, both, but the sum is zero.
    a, b = tensor([4.0, 2.0, 1.0]), tensor([1.0, -1.0, -1.0])
    assert_close(merge("consensus_ta", a, b), tensor([0.0, 1.0, 0.0]))
    assert_close(merge("consensus_ta", a, b, agreement=1), tensor([5.0, 1.0, 0.0]))
    assert_close(merge("consensus_ta", a), a)  # agreement 2 of one task means that one


def test_identical_tasks_need_a_threshold_below_one_over_the_others():
    x = tensor([1.0])
    assert_close(merge("consensus_ta", x, x, x), 3 * x)  # 1 > 0.4 * 2
    assert_close(merge("consensus_ta", *[x] * 4), 0 * x)  # 1 < 0.4 * 3, as in the official code


def test_consensus_ties_masks_with_the_untrimmed_task_vectors():
    # TIES at density 1/2 keeps 4 and -2 of a, 3 and 2 of b (coordinates 0, 1 and 0, 2): sum (7, -2, 2, 0).
    a, b = tensor([4.0, -2.0, 1.0, 0.0]), tensor([3.0, 1.0, 2.0, 0.0])
    assert_close(merge("ties_sum", a, b, density=0.5), tensor([7.0, -2.0, 2.0, 0.0]))
    # Entry 1: a uses it (2 > 0), b: |1| > .4 |-3| fails. Entry 2: a: |1| > .4 |1|, b: |2| > 0.
    assert_close(merge("consensus_ties", a, b, density=0.5), tensor([7.0, 0.0, 2.0, 0.0]))


# Karcher


def test_karcher_by_hand():
    # Unit vectors at 0 and 90 degrees: the mean is at 45 degrees, times the mean norm (2 + 4) / 2.
    merged = merge("karcher", tensor([2.0, 0.0]), tensor([0.0, 4.0]))
    assert_close(merged, torch.full((2,), 3 / math.sqrt(2)))


def test_karcher_is_the_mean_angle_in_the_plane():
    angles = tensor([0.0, 0.3, 1.2])
    merged = merge("karcher", *[torch.stack([a.cos(), a.sin()]) for a in angles], iterations=100)
    assert_close(merged, torch.stack([tensor(0.5).cos(), tensor(0.5).sin()]), rtol=0, atol=1e-4)


def test_karcher_of_opposite_directions_is_zero_and_of_zero_vectors_finite():
    x = tensor([1.0, 2.0])
    assert_close(merge("karcher", x, -x), torch.zeros(2))
    assert_close(merge("karcher", 2 * x, 0 * x), x)  # direction of x, mean norm


# PCB


def pcb_reference(flat, ratio, strength, variant):
    """The official files on a matrix [tasks, parameters], with its sorts."""
    quantile = {"vision": 0.01, "plain": 0.0001}[variant]
    tasks, d = flat.shape

    def clamp(x, low, high):
        ordered = x.sort(dim=1).values
        return x.clamp(ordered[:, [int(d * low)]], ordered[:, [int(d * (1 - high) - 1)]])

    def unit(x):
        low, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
        return (x - low) / (high - low)

    size = clamp(flat.abs(), quantile, quantile)
    rivals = (flat.sign() * unit(size) if variant == "vision" else flat).sum(dim=0)
    score = torch.exp(tasks * unit(size) ** 2) * torch.tanh(flat * rivals)
    weight = unit(clamp(score, 1 - ratio, 0))
    return strength * (flat.sign() * size * weight).sum(dim=0) / weight.sum(dim=0).clamp(min=1e-12)


@pytest.mark.parametrize("variant", ["vision", "plain"])
def test_pcb_equals_the_published_procedure(variant):
    flat = torch.randn(3, 1000, generator=generator(3))
    merged = merge("pcb", *flat, variant=variant, ratio=0.1)
    assert_close(merged, pcb_reference(flat, 0.1, 1.2, variant), rtol=1e-4, atol=1e-5)


def test_pcb_of_equal_magnitudes_is_their_mean():
    assert_close(merge("pcb", torch.ones(4), torch.ones(4)), torch.full((4,), 1.2))


def test_global_operators_use_the_whole_vector_not_each_tensor():
    a = {"large": tensor([8.0, 7.0]), "small": tensor([0.2, 0.1])}
    assert_close(ties.OPERATOR.merge([a], density=0.5), {"large": tensor([8.0, 7.0]), "small": tensor([0.0, 0.0])})
