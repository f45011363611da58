"""Five core operators, each against a closed form worked by hand or a float64 reference."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from methods.merging import MERGING


def random_vectors(tasks=3, shape=(12, 20), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {"w": torch.randn(shape, generator=generator), "b": torch.randn(5, generator=generator)} for _ in range(tasks)
    ]


def test_average_and_task_arithmetic_by_hand():
    a, b = {"w": tensor([[1.0, 2.0]])}, {"w": tensor([[3.0, -6.0]])}
    assert_close(MERGING["task_arithmetic"].merge([a, b]), {"w": tensor([[4.0, -4.0]])})
    assert_close(MERGING["average"].merge([a, b]), {"w": tensor([[2.0, -2.0]])})


def test_ties_by_hand():
    a = {"w": tensor([4.0, -3.0, 1.0, 0.0])}  # density 1/2 keeps 4, -3
    b = {"w": tensor([2.0, 5.0, -0.5, 0.0])}  # density 1/2 keeps 2,  5
    assert_close(MERGING["ties"].merge([a, b], density=0.5), {"w": tensor([3.0, 5.0, 0.0, 0.0])})
    assert_close(MERGING["ties_sum"].merge([a, b], density=0.5), {"w": tensor([6.0, 5.0, 0.0, 0.0])})


def test_ties_elects_by_mass_and_not_by_heads():
    """Two of three are negative and hold 2 against 3."""
    vectors = [{"w": tensor([value])} for value in (3.0, -1.0, -1.0)]
    assert MERGING["ties"].merge(vectors, density=1.0)["w"].tolist() == [3.0]


@pytest.mark.parametrize(("density", "kept"), [(0.5, 2), (0.6, 2), (0.1, 1), (1.0, 3)])
def test_ties_rounds_the_number_of_entries_it_keeps(density, kept):
    merged = MERGING["ties"].merge([{"w": tensor([1.0, 2.0, 3.0])}], density=density)["w"]
    assert merged.tolist() == [0.0] * (3 - kept) + [1.0, 2.0, 3.0][3 - kept :]


def test_ties_scope_says_where_the_share_is_taken():
    a = {"w": tensor([[8.0, 7.0], [2.0, 1.0]]), "b": tensor([6.0, 5.0])}
    expected = {
        "global": {"w": tensor([[8.0, 7.0], [0.0, 0.0]]), "b": tensor([6.0, 0.0])},
        "tensor": {"w": tensor([[8.0, 7.0], [0.0, 0.0]]), "b": tensor([6.0, 0.0])},
        "row": {"w": tensor([[8.0, 0.0], [2.0, 0.0]]), "b": tensor([6.0, 0.0])},
    }
    for scope, value in expected.items():
        assert_close(MERGING["ties"].merge([a], density=0.5, scope=scope), value)
    assert_close(
        MERGING["ties"].merge([a], density=1 / 3, scope="global"),
        {"w": tensor([[8.0, 7.0], [0.0, 0.0]]), "b": torch.zeros(2)},
    )
    assert_close(
        MERGING["ties"].merge([a], density=1 / 3, scope="tensor"),
        {"w": tensor([[8.0, 0.0], [0.0, 0.0]]), "b": tensor([6.0, 0.0])},
    )


def test_ties_zero_sign_rule_where_kept_values_cancel():
    # Coordinate 0 cancels (2 - 2); the others vote -1, -1, +1, so the majority is negative.
    a, b = {"w": tensor([2.0, -3.0, -3.0, 3.0])}, {"w": tensor([-2.0, -1.0, -1.0, 1.0])}
    for rule, value in {"majority": -2.0, "plus": 2.0, "zero": 0.0}.items():
        merged = MERGING["ties_sum"].merge([a, b], density=1.0, zero_sign=rule)
        assert_close(merged, {"w": tensor([value, -4.0, -4.0, 4.0])})


def test_ties_keeps_entries_tied_with_the_threshold():
    a = {"w": tensor([1.0, 1.0, 1.0, 0.5])}
    assert_close(MERGING["ties"].merge([a], density=0.25), {"w": tensor([1.0, 1.0, 1.0, 0.0])})


def test_ties_global_equals_sorting_the_packed_vectors():
    vectors = random_vectors(4, (300, 2000))
    flat = torch.stack([torch.cat([x.flatten() for x in vector.values()]) for vector in vectors])
    k = round(0.2 * flat.shape[1])
    kept = flat * (flat.abs() >= flat.abs().sort(dim=1, descending=True).values[:, k - 1 : k])
    agrees = (kept.sign() == kept.sum(dim=0).sign()) & (kept != 0)
    expected = (kept * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)
    merged = MERGING["ties"].merge(vectors)
    assert_close(torch.cat([merged[name].flatten() for name in vectors[0]]), expected)


def test_iso_c_by_hand():  # the sum has singular values (3, 1)
    a, b = {"w": tensor([[2.0, 0.0], [0.0, 1.0]])}, {"w": tensor([[1.0, 0.0], [0.0, 0.0]])}
    assert_close(MERGING["iso_c"].merge([a, b]), {"w": 2.0 * torch.eye(2)})
    assert_close(MERGING["iso_c"].merge([a, b], spectrum_mean="geometric"), {"w": 3.0**0.5 * torch.eye(2)})


def test_iso_c_mean_over_all_or_nonzero_singular_values():  # singular values (4, 0); the null direction stays null
    a = {"w": tensor([[4.0, 0.0], [0.0, 0.0]])}
    assert_close(MERGING["iso_c"].merge([a]), {"w": tensor([[2.0, 0.0], [0.0, 0.0]])})
    assert_close(MERGING["iso_c"].merge([a], spectrum_mean="nonzero"), a)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16)])
def test_iso_c_agrees_with_a_float64_svd(shape):
    vectors = random_vectors(3, shape)
    u, s, vt = torch.linalg.svd(sum(v["w"].double() for v in vectors), full_matrices=False)
    expected = (s.mean() * (u @ vt)).float()
    assert_close(MERGING["iso_c"].merge(vectors)["w"], expected, rtol=1e-4, atol=1e-6)


def test_tsv_m_by_hand():
    # Rank 2, two tasks: one triplet each. Left vectors e1, e2 and right vectors e1, e2 are orthogonal already.
    a, b = {"w": tensor([[3.0, 0.0], [0.0, 1.0]])}, {"w": tensor([[1.0, 0.0], [0.0, 5.0]])}
    assert_close(MERGING["tsv_m"].merge([a, b]), {"w": tensor([[3.0, 0.0], [0.0, 5.0]])})


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16)])
def test_tsv_m_agrees_with_a_float64_svd(shape):
    vectors = random_vectors(3, shape)
    k = min(shape) // 3
    parts = [torch.linalg.svd(v["w"].double(), full_matrices=False) for v in vectors]
    u, v = torch.cat([p[0][:, :k] for p in parts], 1), torch.cat([p[2][:k].T for p in parts], 1)
    (a, _, b), (c, _, d) = torch.linalg.svd(u, full_matrices=False), torch.linalg.svd(v, full_matrices=False)
    expected = (a @ b) @ torch.diag(torch.cat([p[1][:k] for p in parts])) @ (c @ d).T
    assert_close(MERGING["tsv_m"].merge(vectors)["w"], expected.float(), rtol=1e-4, atol=1e-5)


def test_tsv_m_of_identical_tasks_is_the_truncated_task():
    w = torch.diag(tensor([4.0, 3.0, 2.0, 1.0]))
    assert_close(MERGING["tsv_m"].merge([{"w": w}, {"w": w}])["w"], torch.diag(tensor([4.0, 3.0, 0.0, 0.0])))


def test_non_matrices_are_averaged_by_spectral_operators():
    a, b = {"b": tensor([1.0, 2.0])}, {"b": tensor([3.0, 4.0])}
    for name in ("tsv_m", "iso_c"):
        assert_close(MERGING[name].merge([a, b]), {"b": tensor([2.0, 3.0])})


@pytest.mark.parametrize("name", ["tsv_m", "iso_c", "iso_cts", "cart", "star", "dc_merge", "ace", "wudi_closed"])
def test_every_2d_parameter_is_a_matrix_and_nothing_else_is(name):
    # Position embedding and projection too (official TSV and Iso code, FusionBench); kernels and vectors are averaged.
    g = torch.Generator().manual_seed(0)
    shapes = {"positional_embedding": (5, 6), "proj": (6, 4), "conv1.weight": (6, 3, 2, 2), "ln_post.bias": (6,)}
    vectors = [{n: torch.randn(s, generator=g) for n, s in shapes.items()} for _ in range(3)]
    merged, mean = MERGING[name].merge(vectors), MERGING["average"].merge(vectors)
    as_matrices = MERGING[name].merge([{"a": v["positional_embedding"], "b": v["proj"]} for v in vectors])
    assert_close([merged["positional_embedding"], merged["proj"]], list(as_matrices.values()))
    for matrix in ("positional_embedding", "proj"):
        assert not torch.allclose(merged[matrix], mean[matrix], rtol=1e-3)
    for other in ("conv1.weight", "ln_post.bias"):
        assert_close(merged[other], mean[other])
