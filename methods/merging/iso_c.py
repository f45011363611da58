"""Iso-C (Marczak et al., 2025): the sum of the updates with a flat spectrum.

    sum_t Delta_t = U S V^T        merged = mean(S) U V^T

`spectrum_mean` says over which singular values: "all" min(m, n) of them (paper, official code), the "nonzero" ones, or
their "geometric" mean (sd-mecha). The two differ only where the sum is rank-deficient; there, null directions stay null
instead of being filled with arbitrary vectors. Parameters that are not 2-D are averaged, not summed (official code).
"""

from torch import Tensor

from methods.linalg import SvdCache, added, polar, singular_values
from methods.operator import SPECTRAL, Operator
from methods.vectors import per_tensor


def flat_level(s: Tensor, kind: str) -> Tensor:
    """The one singular value that replaces `s` (descending, zeros last), 0-d."""
    if kind == "all" or not s.any():
        return s.mean()
    s = s[s > 0]
    return s.mean() if kind == "nonzero" else s.log().mean().exp()


def isotropic(matrix: Tensor, kind: str) -> Tensor:
    """The matrix with all its singular values replaced by their mean, float64."""
    cache = SvdCache()  # one decomposition serves both lines
    return flat_level(singular_values(matrix, cache), kind) * polar(matrix, cache)


@per_tensor
def merge(deltas: Tensor, *, spectrum_mean: str) -> Tensor:
    if deltas.ndim != 3:
        return deltas.mean(dim=0)
    return isotropic(added(deltas), spectrum_mean)


OPERATOR = Operator(
    "iso_c",
    merge,
    title="Isotropic merging in the common subspace",
    paper="arXiv:2502.04959",
    formula="sum_t Delta_t = U S V^T; merged = mean(S) U V^T",
    grid={"spectrum_mean": ("all",)},
    coefficients=SPECTRAL,
    cost="spectral",
    per_tensor=True,
    non_matrices="averaged over tasks (official code)",
    unlawful={"identity": "flattens the spectrum of a single task too"},
    version=2,
)
