"""STAR (Lee et al., 2025): truncate each task's spectrum, restore its nuclear norm, average.

For each task keep the fewest leading singular values with at least `energy` of their sum, and scale them to that sum:

    merged = (1/T) sum_t U_k (S_k * |S|_1 / |S_k|_1) V_k^T

The average and not the sum, as in the paper. Parameters that are not 2-D are averaged (lyymuwu/SVC flattens kernels).
"""

import torch
from torch import Tensor

from methods.linalg import Svd, SvdCache, singular_values, svd
from methods.operator import SPECTRAL, Operator
from methods.vectors import per_tensor


def truncate(delta: Tensor, energy: float) -> Svd:
    """One task's update at the rank that holds `energy` of its nuclear norm, with the whole norm, float64."""
    cache = SvdCache()  # one decomposition serves both lines
    s = singular_values(delta, cache)
    if not s.any():
        return svd(delta, 0, cache)
    share = s.cumsum(dim=0) / s.sum()
    top = svd(delta, int((share < energy).sum()) + 1, cache)
    return top._replace(s=top.s * (s.sum() / top.s.sum()))


@per_tensor
def merge(deltas: Tensor, *, energy: float) -> Tensor:
    if deltas.ndim != 3:
        return deltas.mean(dim=0)
    merged = torch.zeros_like(deltas[0], dtype=torch.float64)
    for delta in deltas:
        truncate(delta, energy).add_to(merged, 1 / len(deltas))
    return merged


OPERATOR = Operator(
    "star",
    merge,
    title="Spectral truncation and rescale",
    paper="arXiv:2502.10339",
    formula="merged = mean_t of Delta_t cut to the rank with `energy` of its nuclear norm, rescaled to the whole norm",
    grid={"energy": (0.4, 0.2, 0.6, 0.8)},
    coefficients=SPECTRAL,
    cost="spectral",
    per_tensor=True,
    non_matrices="averaged over tasks",
    unlawful={"identity": "truncates the spectrum of a single task too"},
    version=2,
)
