"""Iso-CTS (Marczak et al., 2025): a common subspace and a small one for each task, all with the same singular value.

With r = min(m, n) and sum_t Delta_t = U S V^T, keep the leading c triplets as the common space; for each task take the
leading k triplets of its remainder (I - U_c U_c^T) Delta_t (projected on the left only); then

    merged = mean(all kept singular values) * polar([U_1 .. U_T  U_c]) polar([V_1 .. V_T  V_c])^T

k = round((r - floor(common * r)) / T) and c = r - T k, as in the official code (Python's rounding to even); other ports
floor instead, which differs by 55 % at common = 0.75. Where T k would exceed r, k is lowered. Null directions stay null
and count as zero in the mean. Parameters that are not 2-D are averaged.
"""

import torch
from torch import Tensor

from methods.linalg import TOLERANCE, added, polar, svd
from methods.operator import SPECTRAL, Operator
from methods.vectors import per_tensor


def split_rank(rank: int, tasks: int, common: float) -> tuple[int, int]:
    """(common dimensions, dimensions per task) that together fill the rank."""
    each = round((rank - int(rank * common)) / tasks)
    while each * tasks > rank:
        each -= 1
    return rank - each * tasks, each


@per_tensor
def merge(deltas: Tensor, *, common: float) -> Tensor:
    if deltas.ndim != 3:
        return deltas.mean(dim=0)
    rank = min(deltas.shape[1:])
    shared, each = split_rank(rank, len(deltas), common)
    top = svd(added(deltas), shared)
    parts = []
    for delta in deltas if each else ():
        delta = delta.double()
        floor = TOLERANCE * float(torch.linalg.matrix_norm(delta))
        parts.append(svd(delta - top.u @ (top.u.T @ delta), each, floor=floor))
    parts.append(top)
    level = torch.cat([part.s for part in parts]).sum() / rank
    u, vt = polar(torch.cat([part.u for part in parts], dim=1)), polar(torch.cat([part.v.T for part in parts]))
    return (level * u).to(deltas.dtype) @ vt.to(deltas.dtype)


OPERATOR = Operator(
    "iso_cts",
    merge,
    title="Isotropic merging in common and task-specific subspaces",
    paper="arXiv:2502.04959",
    formula="common top space of the sum + top space of each task's remainder, orthogonalised, one singular value",
    grid={"common": (0.8, 0.5, 0.9)},
    coefficients=SPECTRAL,
    cost="spectral",
    per_tensor=True,
    non_matrices="averaged over tasks (official code)",
    unlawful={"identity": "flattens the spectrum of a single task too"},
    version=2,
)
