"""CART (Choi et al., 2024): the average, plus what each task adds to it at low rank.

    mean = (1/T) sum_t Delta_t        merged = mean + strength * sum_t rank_k(Delta_t - mean)

with k = ceil(rank * min(m, n)). The sum over tasks, as in core-space's code, so full rank gives the mean again (the
remainders add to zero). Parameters that are not 2-D are averaged.
"""

import math

import torch
from torch import Tensor

from methods.linalg import TOLERANCE, svd
from methods.operator import SPECTRAL, Operator
from methods.vectors import per_tensor


@per_tensor
def merge(deltas: Tensor, *, rank: float, strength: float) -> Tensor:
    mean = deltas.mean(dim=0)
    if deltas.ndim != 3 or not deltas.numel():
        return mean
    k = math.ceil(rank * min(mean.shape))
    merged = mean.to(torch.float64, copy=True)
    for delta in deltas:
        delta = delta.double()
        floor = TOLERANCE * float(torch.linalg.matrix_norm(delta))
        svd(delta - mean, k, floor=floor).add_to(merged, strength)
    return merged


OPERATOR = Operator(
    "cart",
    merge,
    title="Centred arithmetic with rank-reduced task vectors",
    paper="arXiv:2412.12153",
    formula="merged = mean + strength sum_t rank_k(Delta_t - mean)",
    grid={"rank": (0.04, 0.08, 0.16), "strength": (1.0, 0.5, 2.0)},
    coefficients=SPECTRAL,
    cost="spectral",
    per_tensor=True,
    non_matrices="averaged over tasks",
    version=2,
)
