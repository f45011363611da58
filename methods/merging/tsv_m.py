"""TSV-Merge (Gargiulo et al., 2025): keep few singular vectors of each task and decorrelate them across tasks.

For every matrix of rank bound r = min(m, n) and T tasks:

    U_t, S_t, V_t = leading k = floor(rank * r / T) singular triplets of Delta_t     (rank = 1 by default)
    U = polar([U_1 ... U_T]),  V = polar([V_1 ... V_T]),  S = diag(S_1 ... S_T)
    merged = U S V^T

At least one triplet per task is kept, so T > r does not erase the matrix (the official code would). Remainder columns
(r mod T) are dropped as in the official code. Every 2-D tensor is a matrix, as in the official code and FusionBench,
embeddings included; all other parameters are averaged. Null directions of rank-deficient updates stay null (see
`methods.linalg.polar`), so on LoRA updates the result is defined, which it is not with an SVD.
"""

import torch
from torch import Tensor

from methods.linalg import polar, svd
from methods.operator import SPECTRAL, Operator
from methods.vectors import per_tensor


@per_tensor
def merge(deltas: Tensor, *, rank: float) -> Tensor:
    if deltas.ndim != 3:
        return deltas.mean(dim=0)
    tasks, *shape = deltas.shape
    k = max(1, int(rank * min(shape) / tasks))
    parts = [svd(delta, k) for delta in deltas]
    u = polar(torch.cat([part.u for part in parts], dim=1))
    vt = polar(torch.cat([part.v.T for part in parts]))
    return (u * torch.cat([part.s for part in parts])).to(deltas.dtype) @ vt.to(deltas.dtype)


OPERATOR = Operator(
    "tsv_m",
    merge,
    title="Task singular vectors merge",
    paper="arXiv:2412.00081",
    formula="U, V = polar factors of the stacked top r/T singular vectors; merged = U diag(S_1..S_T) V^T",
    grid={"rank": (1.0,)},
    coefficients=SPECTRAL,
    cost="spectral",
    per_tensor=True,
    non_matrices="averaged over tasks (official code)",
    version=2,
)
