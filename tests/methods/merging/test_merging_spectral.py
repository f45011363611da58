"""Spectral and iterative operators against closed forms and plain float64 references."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from methods.linalg import SvdCache, polar, singular_values
from methods.merging import MERGING, iso_cts, wudi
from methods.merging.doge_ta import shared_basis, shift
from methods.vectors import generator


def merge(name, *tensors, **options):
    return MERGING[name].merge([{"w": x} for x in tensors], **options)["w"]


def randoms(tasks, *shape, seed=0):
    return torch.randn(tasks, *shape, generator=generator(seed)).unbind()


def cut(matrix, k):
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :k] * s[:k] @ vt[:k]


def relative(left, right):
    return float(torch.linalg.norm(left.double() - right.double()) / torch.linalg.norm(right.double()))


# Iso-CTS


def test_iso_cts_splits_the_rank_as_the_official_code_does():
    assert iso_cts.split_rank(768, 8, 0.8) == (768 - 8 * 19, 19)  # round(154 / 8) = 19
    assert iso_cts.split_rank(96, 8, 0.75) == (72, 3)
    assert iso_cts.split_rank(6, 3, 0.75) == (3, 1)  # round(2 / 3) = 1; a floor would give (6, 0)
    assert iso_cts.split_rank(4, 7, 0.2) == (4, 0)  # round(4 / 7) = 1, and 7 > 4


def test_iso_cts_by_hand():
    # The sum is diag(4, 4, 3): common = the two fours; the remainder of task 1 is 3 e3 e3^T. Level (4 + 4 + 3) / 3.
    a, b = torch.diag(tensor([4.0, 0.0, 3.0])), torch.diag(tensor([0.0, 4.0, 0.0]))
    merged = merge("iso_cts", a + b, common=0.67)
    assert_close(merged, 11 / 3 * torch.eye(3))


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_iso_cts_agrees_with_a_float64_svd(shape):
    deltas = [x.double() for x in randoms(2, *shape)]
    c, k = iso_cts.split_rank(12, 2, 0.8)
    u, s, vt = torch.linalg.svd(sum(deltas), full_matrices=False)
    us, ss, vs = [], [], []
    for delta in deltas:
        rest = delta - u[:, :c] @ u[:, :c].T @ delta
        a, b, d = torch.linalg.svd(rest, full_matrices=False)
        us, ss, vs = [*us, a[:, :k]], [*ss, b[:k]], [*vs, d[:k].T]
    us, ss, vs = torch.cat([*us, u[:, :c]], 1), torch.cat([*ss, s[:c]]), torch.cat([*vs, vt[:c].T], 1)
    (a, _, b), (d, _, e) = torch.linalg.svd(us, full_matrices=False), torch.linalg.svd(vs, full_matrices=False)
    assert relative(merge("iso_cts", *[x.float() for x in deltas]), ss.mean() * (a @ b) @ (d @ e).T) < 1e-4


# CART, STAR


def test_cart_at_full_rank_is_the_mean_again():
    a, b, c = randoms(3, 6, 9)
    assert_close(merge("cart", a, b, c, rank=1.0), (a + b + c) / 3)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_cart_agrees_with_a_float64_svd(shape):
    deltas = torch.stack(randoms(3, *shape)).double()
    mean = deltas.mean(dim=0)
    expected = mean + 0.5 * sum(cut(x - mean, 2) for x in deltas)  # ceil(0.1 * 12) = 2
    assert relative(merge("cart", *deltas.float(), rank=0.1, strength=0.5), expected) < 1e-4


def test_star_by_hand():
    # Nuclear norm 10; 4 reaches 40 % of it; one triplet scaled to 10. The other task is kept whole at rank one.
    a, b = torch.diag(tensor([4.0, 3.0, 2.0, 1.0])), torch.diag(tensor([2.0, 0.0, 0.0, 0.0]))
    assert_close(merge("star", a, b), torch.diag(tensor([6.0, 0.0, 0.0, 0.0])))
    # 70 % of the norm: 4 + 3, scaled by 10 / 7.
    assert_close(merge("star", a, energy=0.7), torch.diag(tensor([40 / 7, 30 / 7, 0.0, 0.0])))


# WUDI


def test_wudi_equals_torch_adam_on_the_published_loss():
    deltas = torch.stack(randoms(3, 5, 7)) * 1e-3
    m = torch.nn.Parameter(deltas.sum(dim=0))
    adam = torch.optim.Adam([m], lr=1e-5)
    energy = deltas.square().sum(dim=(1, 2))
    for _ in range(20):
        adam.zero_grad()
        loss = (((m - deltas) @ deltas.mT).square() / energy[:, None, None]).sum()
        loss.backward()
        adam.step()
    moved = merge("wudi", *deltas, iterations=20)
    assert relative(moved - deltas.sum(dim=0), m.detach() - deltas.sum(dim=0)) < 2e-2  # float32 gradients near zero
    assert relative(moved, m.detach()) < 1e-4


def test_wudi_closed_form_is_the_minimiser():
    deltas = torch.stack(randoms(2, 4, 6)).double()
    m = merge("wudi_closed", *deltas)
    a, b = wudi.normal_equations(deltas)
    assert_close(m @ a, b, rtol=1e-4, atol=1e-5)  # the gradient vanishes


def test_wudi_closed_by_hand():
    # Tasks that read different inputs are both kept; tasks that read the same input average, weighted by energy
    # (1 / |Delta|^2 times |Delta|^2 is one for each) or by their size ("equal").
    a, b = tensor([[2.0, 0.0]]), tensor([[0.0, 5.0]])
    assert_close(merge("wudi_closed", a, b), tensor([[2.0, 5.0]]))
    a, b = tensor([[1.0, 0.0]]), tensor([[3.0, 0.0]])
    assert_close(merge("wudi_closed", a, b), tensor([[2.0, 0.0]]))
    assert_close(merge("wudi_closed", a, b, weights="equal"), tensor([[(1 + 27) / 10, 0.0]]))


def test_wudi_others_are_averaged_or_left():
    a, b = tensor([2.0]), tensor([4.0])
    for name in ("wudi", "wudi_closed"):
        assert_close(merge(name, a, b), tensor([3.0]))
        assert_close(merge(name, a, b, others="zero"), tensor([0.0]))


# DC-Merge


def test_dc_merge_by_hand():
    # k = 1 a task. Orthogonal leading triplets are their own cover; density 1 keeps every core entry.
    a, b = torch.diag(tensor([3.0, 1.0])), torch.diag(tensor([1.0, 5.0]))
    for inner in ("ties", "sum"):
        assert_close(merge("dc_merge", a, b, density=1.0, inner=inner), torch.diag(tensor([3.0, 5.0])))


def test_dc_merge_smoothing_averages_the_kept_singular_values():
    a = torch.diag(tensor([3.0, 1.0]))
    assert_close(merge("dc_merge", a, inner="sum", smoothing="average"), 2 * torch.eye(2))
    assert_close(merge("dc_merge", a, inner="sum"), a)


def test_dc_merge_keeps_the_largest_core_entries():
    a = torch.diag(tensor([4.0, 3.0, 2.0, 1.0]))
    assert_close(merge("dc_merge", a, density=2 / 16), torch.diag(tensor([4.0, 3.0, 0.0, 0.0])))


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_dc_merge_agrees_with_the_published_procedure_in_float64(shape):
    deltas = [x.double() for x in randoms(3, *shape)]
    parts = [torch.linalg.svd(x, full_matrices=False) for x in deltas]
    us, vs = torch.cat([p[0][:, :4] for p in parts], 1), torch.cat([p[2][:4] for p in parts])
    (a, _, b), (c, _, d) = torch.linalg.svd(us, full_matrices=False), torch.linalg.svd(vs, full_matrices=False)
    u, vt = a @ b, c @ d
    cores = torch.stack([u.T @ cut(x, 4) @ vt.T for x in deltas])
    size = cores.abs().flatten(1)
    limit = size.sort(dim=1, descending=True).values[:, int(0.1 * size.shape[1]) - 1]
    cores = cores * (cores.abs() >= limit[:, None, None])
    sign = cores.sum(dim=0).sign()
    agree = cores.sign() == sign
    core = torch.where(sign == 0, 0.0, (cores * agree).sum(dim=0) / agree.sum(dim=0).clamp(min=1))
    mask = torch.block_diag(*[torch.ones(4, 4, dtype=torch.float64)] * 3)
    assert relative(merge("dc_merge", *[x.float() for x in deltas], density=0.1), u @ (core * mask) @ vt) < 1e-4


# ACE


def ace_reference(deltas, ridge=1e-2, fraction=0.3):
    """The official code, in float64."""
    eye = torch.eye(deltas.shape[2], dtype=torch.float64)
    energy = deltas.square().sum(dim=(1, 2))
    logs = torch.log(energy + 1e-12)
    flag = torch.var(logs) / (logs.mean() ** 2 + 1e-12) > 0.3
    sigmas, num, den = [], 0, 0
    for w in deltas:
        w = w - w.mean(dim=0, keepdim=True)
        raw = w.T @ w
        tr = torch.trace(raw) + 1e-12
        sigma, e = (raw / tr, ridge / tr) if flag else (raw, ridge)
        sigmas.append(sigma)
        num, den = num + w @ (sigma + e * eye), den + sigma + e * eye
    prior = sum(sigmas).mean(dim=0, keepdim=True) / (energy.mean() + 1e-12 if flag else 1)
    merged = num @ torch.linalg.inv(den + prior)
    if flag:
        rest = sum(w @ (s - den / len(deltas)) for w, s in zip(deltas, sigmas, strict=True))
        u, s, vt = torch.linalg.svd(merged + rest, full_matrices=False)
        k = int(len(s) * fraction)
        merged = merged + s[:k].mean() * u[:, :k] @ vt[:k]
    return merged, bool(flag)


@pytest.mark.parametrize(("sizes", "uneven"), [((1.0, 1.0, 1.0), False), ((1.0, 0.05, 0.3), True)])
def test_ace_equals_the_official_code(sizes, uneven):
    deltas = torch.stack([x * size for x, size in zip(randoms(3, 8, 6), sizes, strict=True)]).double()
    expected, flag = ace_reference(deltas)
    assert flag is uneven
    assert relative(merge("ace", *deltas.float()), expected) < 1e-4


def test_ace_with_the_plain_numerator_returns_a_single_task():
    # No row mean: zero columns sums, so that the prior is what the covariance gives; ridge 1e-5.
    (x,) = randoms(1, 40, 5)
    merged = merge("ace", x, numerator="plain", ridge=1e-5)
    sigma = (x - x.mean(dim=0)).double().T @ (x - x.mean(dim=0)).double()
    a = sigma + 1e-5 * torch.eye(5).double()
    assert relative(merged, x.double() @ a @ torch.linalg.inv(a + sigma.mean(dim=0))) < 1e-4


# DOGE


def test_doge_shift_equals_autograd_and_adam():
    deltas = torch.stack(randoms(3, 6, 9)) * 1e-2
    lambdas = 0.07 / torch.linalg.vector_norm(deltas, dim=(1, 2))
    basis = shared_basis(deltas, 3)
    assert basis.shape == (6, 2)
    delta = torch.nn.Parameter(torch.zeros(6, 9))
    adam = torch.optim.Adam([delta], lr=1e-4)
    for _ in range(15):
        loss = 0
        for v in deltas:
            inner = -v * (lambdas[:, None, None] * deltas).sum(0) - v * (lambdas.sum() * delta) + v * v
            loss = loss + inner.sum(dim=1).pow(2).sum()
        adam.zero_grad()
        loss.backward()
        delta.grad -= basis @ basis.T @ delta.grad
        adam.step()
    assert relative(shift(deltas, lambdas, basis, 15, 1e-4), delta.detach()) < 1e-3


def test_doge_without_steps_is_normalised_and_masked():
    # Norms 5 and 10: 0.07 / norm. The mask keeps the larger half of each task's entries.
    a, b = tensor([[3.0, 4.0]]), tensor([[8.0, 6.0]])
    merged = MERGING["doge_ta"].merge([{"w": a}, {"w": b}], density=0.5, learning_rate=1e-12, iterations=1)["w"]
    assert_close(merged, 0.07 * tensor([[0.8, 0.8]]))


def test_doge_leaves_other_parameters_or_averages_them():
    vectors = [{"w": torch.eye(2), "b": tensor([2.0])}, {"w": torch.eye(2), "b": tensor([4.0])}]
    assert_close(MERGING["doge_ta"].merge(vectors, iterations=1)["b"], tensor([0.0]))
    assert_close(MERGING["doge_ta"].merge(vectors, iterations=1, others="mean")["b"], tensor([3.0]))


# All spectral operators


@pytest.mark.parametrize("name", ["tsv_m", "iso_c", "iso_cts", "cart", "star", "dc_merge", "wudi_closed"])
def test_low_rank_updates_give_the_same_in_float32_and_float64(name):
    # With arbitrary null vectors in the whitening, full-space TSV-M and Iso-C differ by 66 and 83 % here.
    left, right = randoms(3, 40, 3), randoms(3, 3, 60, seed=1)
    single = [b @ a for b, a in zip(left, right, strict=True)]
    double = [b.double() @ a.double() for b, a in zip(left, right, strict=True)]
    assert relative(merge(name, *single), merge(name, *double)) < 1e-3


def test_a_matrix_asked_for_twice_is_decomposed_once():
    matrix, cache = randoms(1, 8, 12)[0], SvdCache()
    assert_close(singular_values(matrix, cache), torch.linalg.svdvals(matrix.double()))
    assert_close(polar(matrix, cache), polar(matrix), rtol=0, atol=0)
    assert len(cache) == 1
    assert len(cache.get(2 * matrix.double()).s) == 8
    assert len(cache) == 2
