"""Selection and linear algebra against sorting and float64 references."""

import pytest
import torch
from torch.testing import assert_close

from methods.linalg import added, polar, singular_values, spectrum, svd
from methods.selection import kth_largest


@pytest.mark.parametrize("values", ["normal", "constant", "two", "zeros"])
def test_kth_largest_equals_sorting(values):
    g = torch.Generator().manual_seed(0)
    x = {
        "normal": torch.randn(400_000, generator=g),
        "constant": torch.full((400_000,), -2.0),
        "two": torch.randint(0, 2, (400_000,), generator=g).float(),
        "zeros": torch.zeros(400_000),
    }[values]
    rows = torch.stack([x, -x.flip(0)])
    ordered = rows.sort(dim=1, descending=True).values
    for k in (1, 2, 80_000, 399_999, 400_000):
        found = kth_largest(lambda stride: [p[:, ::stride] for p in rows.split(150_001, dim=1)], k, 400_000)
        assert torch.equal(found, ordered[:, k - 1])


def test_kth_largest_is_exact_when_the_sample_misleads():
    # Every stride-th entry is tiny and all others are large: the bracket misses on both sides.
    x = torch.rand(1, 300_001, generator=torch.Generator().manual_seed(0)) + 10
    misled = lambda stride: [x] if stride == 1 else [torch.linspace(0, 1, 30_000)[None]]  # noqa: E731
    assert torch.equal(kth_largest(misled, 1000, 300_001)[0], x[0].sort(descending=True).values[999])
    misled = lambda stride: [x] if stride == 1 else [torch.linspace(90, 91, 30_000)[None]]  # noqa: E731
    assert torch.equal(kth_largest(misled, 1000, 300_001)[0], x[0].sort(descending=True).values[999])


def test_kth_largest_of_too_few():
    with pytest.raises(ValueError, match="cannot take the 3-th largest of 2 entries"):
        kth_largest(lambda stride: [torch.ones(1, 2)], 3, 2)


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (9, 9), (1, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-30])
def test_svd_equals_the_float64_reference(shape, scale):
    matrix = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scale).double()
    u, s, v = svd(matrix)
    assert_close(s, torch.linalg.svdvals(matrix), rtol=1e-6, atol=0)
    assert_close((u * s) @ v.T, matrix, rtol=1e-6, atol=1e-7 * scale)
    assert_close(u.T @ u, torch.eye(min(shape)).double())
    assert_close(v.T @ v, torch.eye(min(shape)).double())
    a, _, b = torch.linalg.svd(matrix, full_matrices=False)
    assert_close(polar(matrix), a @ b)


def test_a_low_rank_product_in_float32_has_its_rank():
    g = torch.Generator().manual_seed(2)
    matrix = torch.randn(200, 4, generator=g) @ torch.randn(4, 300, generator=g)
    assert len(svd(matrix).s) == 4
    assert torch.count_nonzero(singular_values(matrix)) == 4
    assert_close(torch.linalg.matrix_norm(polar(matrix)), torch.tensor(2.0).double())


def test_zero_matrices_have_no_directions():
    assert_close(polar(torch.zeros(3, 4)), torch.zeros(3, 4).double())
    assert svd(torch.zeros(3, 4)).s.shape == (0,)
    assert_close(singular_values(torch.zeros(3, 4)), torch.zeros(3).double())


def orthonormal(rows, columns, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, columns, generator=g, dtype=torch.float64))[0]


@pytest.mark.parametrize("side", [60, 515])  # below and above the size from which Gram matrices are halved
@pytest.mark.parametrize("spectrum_of", ["apart", "flat", "cluster", "few", "zero"])
def test_leading_triplets_alone_equal_those_of_the_whole(side, spectrum_of):
    s = {
        "apart": 0.97 ** torch.arange(side),
        "flat": torch.ones(side),
        "cluster": 1 + 1e-9 * torch.arange(side),
        "few": (torch.arange(side) < 4).double(),
        "zero": torch.zeros(side),
    }[spectrum_of].double()
    u, v = orthonormal(side, side, 0), orthonormal(side + 40, side, 1)
    for matrix in ((u * s) @ v.T, (v * s) @ u.T):
        for k in (1, side // 8):
            top = svd(matrix, k)
            some = min(k, int((s > 0).sum()))
            eye = torch.eye(some).double()
            assert_close(top.s, s.sort(descending=True).values[:some])
            assert_close(top.u.T @ top.u, eye)
            assert_close(top.v.T @ top.v, eye)
            assert_close(matrix @ top.v, top.u * top.s)  # so they are singular vectors, whichever a cluster offers
            if spectrum_of == "apart":
                whole = svd(matrix).top(k)
                assert_close((top.u * top.s) @ top.v.T, (whole.u * whole.s) @ whole.v.T)


def test_few_leading_triplets_are_all_that_is_computed():
    matrix = torch.randn(40, 60, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert [len(spectrum(matrix, rank).s) for rank in (None, 0, 1, 8, 9)] == [40, 40, 1, 8, 40]
    assert svd(matrix, 0).s.shape == (0,)


def test_added_is_the_float64_sum():
    matrices = torch.randn(5, 7, 9, generator=torch.Generator().manual_seed(4))
    assert_close(added(matrices), matrices.double().sum(dim=0))
    assert added(matrices[:, :0]).shape == (0, 9)
