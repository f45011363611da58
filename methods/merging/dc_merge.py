"""DC-Merge (CVPR 2026): merge small cores in one basis that covers the leading directions of all tasks.

For each matrix with k = floor(min(m, n) / T) and Delta_t ~ U_t S_t V_t^T at rank k,

    U = polar([U_1 .. U_T]),  V = polar([V_1 .. V_T]),  M_t = U^T U_t S_t V_t^T V
    M = inner(M_1 .. M_T) on the T diagonal k x k blocks, zero elsewhere        merged = U M V^T

Defaults follow the official code for full fine-tuning: `inner` "ties" (keep the `density` largest entries of each M_t,
elect signs, average what agrees) and `smoothing` "none"; merge-and-rebase uses smoothing "average" (all kept singular
values become their mean, part of the paper's method) and `inner` "sum". At least one triplet per task is kept.
"""

import torch
from torch import Tensor

from methods.linalg import polar, svd
from methods.operator import SPECTRAL, Operator
from methods.selection import ranked
from methods.vectors import per_tensor


def agree(cores: Tensor, density: float) -> Tensor:
    """TIES on small matrices [tasks, r, r]: largest entries of each, sign of the sum, mean of what has it."""
    if not cores.numel():
        return cores.sum(dim=0)
    size = cores.abs().reshape(len(cores), -1)
    kept = max(1, int(density * size.shape[1]))
    (limit,) = ranked(size, size.shape[1] - kept)
    cores = cores * (cores.abs() >= limit[:, :, None])
    sign = cores.sum(dim=0).sign()
    agreeing = (cores * sign).clamp(min=0)
    return sign * agreeing.sum(dim=0) / (agreeing > 0).sum(dim=0).clamp(min=1)


@per_tensor
def merge(deltas: Tensor, *, density: float, inner: str, smoothing: str) -> Tensor:
    if deltas.ndim != 3:
        return deltas.mean(dim=0)
    tasks, *shape = deltas.shape
    k = max(1, min(shape) // tasks)
    parts = [svd(delta, k) for delta in deltas]
    if smoothing == "average":
        parts = [part._replace(s=part.s.mean().expand_as(part.s)) for part in parts]
    u = polar(torch.cat([part.u for part in parts], dim=1))
    vt = polar(torch.cat([part.v.T for part in parts]))
    cores = torch.stack([((u.T @ part.u) * part.s) @ (vt @ part.v).T for part in parts])
    core = agree(cores, density) if inner == "ties" else cores.sum(dim=0)
    blocks = torch.block_diag(*[torch.ones(len(part.s), len(part.s), dtype=torch.float64) for part in parts])
    return (u @ (core * blocks)).to(deltas.dtype) @ vt.to(deltas.dtype)


OPERATOR = Operator(
    "dc_merge",
    merge,
    title="DC-Merge",
    paper="arXiv:2603.06242",
    formula="U, V = polar factors of the stacked top r/T vectors; merged = U blockdiag(inner(U^T Delta_t V)) V^T",
    grid={"density": (0.001, 0.01, 0.1), "inner": ("ties", "sum"), "smoothing": ("none", "average")},
    coefficients=SPECTRAL,
    cost="spectral",
    per_tensor=True,
    non_matrices="averaged over tasks (official code)",
    unlawful={
        "identity": "keeps the largest entries of a single task's core only",
        "agreement": "the largest entries of identical tasks' cores may all lie off the diagonal blocks",
    },
    version=2,
)
