"""Singular values through float64 Gram matrices.

For an m x n matrix with m <= n the eigenvectors of the m x m Gram matrix in double precision give the singular value
decomposition faster than a float32 SVD of the matrix and more accurately (singular values good to about 1e-8 of the
largest). Directions whose singular value is below `TOLERANCE` of the largest are rounding noise of float32 inputs:
they are dropped, never divided by, so rank-deficient and zero matrices have a defined answer everywhere.

Where few leading directions are wanted, LAPACK's bisection and inverse iteration (SciPy; torch has no such driver)
find them on a CPU without the others: 64 of 512 take half the time of all. The solvers agree to rounding, not in bits.
"""

from contextlib import AbstractContextManager, suppress
from typing import NamedTuple

import scipy.linalg
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

TOLERANCE = 1e-6  # 8 float32 epsilons; a product B @ A in float32 leaves null directions at about 1e-7
PART = 5  # up to a fifth of the eigenvectors are found faster alone than with all others
HALVED = 512  # Gram matrices of this size and more are made by half
_BLAS = ThreadpoolController()  # NumPy's and SciPy's


class Svd(NamedTuple):
    """u [m, k], s [k] descending, v [n, k] with matrix = u @ diag(s) @ v.T, float64, k = numerical rank."""

    u: Tensor
    s: Tensor
    v: Tensor

    def top(self, rank: int) -> "Svd":
        """The leading `rank` triplets (fewer where the matrix has fewer)."""
        return Svd(self.u[:, :rank], self.s[:rank], self.v[:, :rank])

    def add_to(self, total: Tensor, weight: float = 1.0) -> None:
        """total += weight * u @ diag(s) @ v.T, in place, [m, n]."""
        total.addmm_(self.u * self.s, self.v.T, alpha=weight)


def added(matrices: Tensor) -> Tensor:
    """The sum over the first dimension in float64; `sum(dim=0, dtype=torch.float64)` would first copy everything."""
    total = torch.zeros_like(matrices[0], dtype=torch.float64)
    for matrix in matrices:
        total += matrix
    return total


class Spectrum(NamedTuple):
    """Eigenvectors [k, r] of the smaller Gram matrix of a matrix, with singular values [r], descending."""

    basis: Tensor
    s: Tensor


def _threads() -> AbstractContextManager[object]:
    """NumPy and SciPy with as many threads as torch was given; by themselves they take all cores."""
    return _BLAS.limit(limits=torch.get_num_threads(), user_api="blas")


def _gram(wide: Tensor) -> Tensor:
    """wide @ wide.T."""
    if len(wide) < HALVED or wide.device.type != "cpu":
        return wide @ wide.T
    rows = wide.numpy()
    with _threads():
        return torch.from_numpy(rows @ rows.T)  # NumPy knows a product with itself, which is half the operations


def _eigh(gram: Tensor, rank: int | None) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix: the `rank` largest, or all."""
    side = len(gram)
    if rank and PART * rank <= side and gram.device.type == "cpu":
        with _threads(), suppress(scipy.linalg.LinAlgError):
            values, basis = scipy.linalg.eigh(gram.numpy(), subset_by_index=(side - rank, side - 1), check_finite=False)
            if len(values) == rank:  # bisection loses count where all eigenvalues are equal to rounding
                return torch.from_numpy(values), torch.from_numpy(basis)
    return torch.linalg.eigh(gram)


def spectrum(matrix: Tensor, rank: int | None = None) -> Spectrum:
    """Singular values above the tolerance and the singular vectors of the smaller side of a float64 matrix.

    With `rank` the leading ones are enough: there are at least so many, or all above the tolerance.
    """
    if not matrix.numel():
        return Spectrum(matrix.new_zeros(min(matrix.shape), 0), matrix.new_zeros(0))
    gram = _gram(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)
    scale = gram.diagonal().max().clamp(min=torch.finfo(torch.float64).tiny)  # keeps tiny vectors away from underflow
    values, basis = _eigh(gram / scale, rank)
    s = (values.clamp(min=0).sqrt() * scale.sqrt()).flip(0)
    rank = int((s > TOLERANCE * s[0]).sum())
    return Spectrum(basis.flip(1)[:, :rank].contiguous(), s[:rank])


class SvdCache:
    """Decompositions of matrices that are asked for more than once, keyed by content: shape and four float64 sums.

    It keeps the whole smaller-side basis, 8 min(m, n)^2 bytes a matrix, so it costs more than the few directions that
    one call may want alone.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Spectrum] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, matrix: Tensor) -> Spectrum:
        """`spectrum` of this matrix, computed on first sight."""
        if not matrix.numel():
            return spectrum(matrix)
        sums = (matrix.sum(), (matrix * matrix).sum(), matrix[0].sum(), matrix[:, 0].sum())
        key = (tuple(matrix.shape), *(float(x) for x in sums))
        if key not in self._known:
            self._known[key] = spectrum(matrix)
        return self._known[key]


def _spectrum(matrix: Tensor, cache: SvdCache | None, rank: int | None = None) -> Spectrum:
    return spectrum(matrix, rank) if cache is None else cache.get(matrix)


def svd(matrix: Tensor, rank: int | None = None, cache: SvdCache | None = None, floor: float = 0.0) -> Svd:
    """The leading `rank` singular triplets of a matrix [m, n] (all above the tolerance by default), float64.

    The vectors of the longer side are formed only for the triplets asked for. Where the matrix is a small remainder of
    something larger, `floor` is the size below which singular values are that something's rounding noise.
    """
    matrix = matrix.double()
    basis, s = _spectrum(matrix, cache, rank)
    above = s[:rank] > floor
    basis, s = basis[:, :rank][:, above], s[:rank][above]
    if matrix.shape[0] <= matrix.shape[1]:
        return Svd(basis, s, ((basis / s).T @ matrix).T)  # twice as fast as matrix.T @ (basis / s)
    return Svd(matrix @ (basis / s), s, basis)


def singular_values(matrix: Tensor, cache: SvdCache | None = None) -> Tensor:
    """All min(m, n) singular values in float64, descending; those below the tolerance are exactly zero."""
    matrix = matrix.double()
    s = _spectrum(matrix, cache).s
    return torch.cat([s, s.new_zeros(min(matrix.shape) - len(s))])


def polar(matrix: Tensor, cache: SvdCache | None = None) -> Tensor:
    """The orthogonal polar factor U V^T of U S V^T, float64: every singular value above the tolerance becomes 1.

    Null directions stay null. An SVD would fill them with arbitrary vectors, which then carry weight (66 % between
    float32 and float64 on LoRA updates); dropping them is the continuous choice.
    """
    matrix = matrix.double()
    basis, s = _spectrum(matrix, cache)
    root = (basis / s) @ basis.T
    return root @ matrix if matrix.shape[0] <= matrix.shape[1] else matrix @ root
