"""DOGE task arithmetic (Wei et al., 2025): one learned shift of all task vectors, outside their shared subspace.

For each matrix, with lambda_t = strength / |Delta_t|, S = sum_t lambda_t Delta_t and L = sum_t lambda_t, learn delta by
Adam (400 steps of 1e-4 from 0) on the gap of each row i,

    sum_j sum_i ( <v_ji, v_ji - S_i - L delta_i> )^2                  v_ji = row i of Delta_j

with the gradient projected off the leading floor(r / subspace) left directions of the stacked top r/T left singular
vectors. Then, with masks over the `density` largest entries of each task (of all matrices together),

    merged = sum_t lambda_t (Delta_t + delta) * mask_t

as in FusionBench's port, with the gradient written down. Its result does not depend on the experts' scale. Other
parameters stay at the pretrained weights (`others` "zero", as published) or are averaged ("mean").
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from methods.adam import Adam
from methods.linalg import svd
from methods.merging.ties import kept_count
from methods.merging.wudi import left
from methods.operator import SPECTRAL, Operator
from methods.selection import kth_largest
from methods.vectors import TaskVector, Vectors, chunks, stack


def shared_basis(deltas: Tensor, subspace: int) -> Tensor:
    """Leading left directions of the stacked top r/T left singular vectors of the tasks, [m, floor(r / subspace)]."""
    rank = min(deltas.shape[1:])
    tops = [svd(delta, rank // len(deltas)).u for delta in deltas]
    return svd(torch.cat(tops, dim=1), rank // int(subspace)).u.to(deltas.dtype)


def shift(deltas: Tensor, lambdas: Tensor, basis: Tensor, iterations: int, learning_rate: float) -> Tensor:
    """The learned delta [m, n]."""
    rows = deltas.transpose(0, 1).contiguous()  # [m, tasks, n]
    whole = lambdas.sum()
    gap = (rows * (rows - (lambdas[:, None] * rows).sum(dim=1, keepdim=True))).sum(dim=2)  # at delta = 0, [m, tasks]
    delta = torch.zeros_like(deltas[0])
    adam = Adam(delta, learning_rate)
    for _ in range(iterations):
        error = gap - whole * torch.bmm(rows, delta[:, :, None])[:, :, 0]
        gradient = torch.bmm(error[:, None, :], rows)[:, 0] * (-2 * whole)
        adam.step(gradient - basis @ (basis.T @ gradient))
    return delta


def merge(
    vectors: Vectors,
    *,
    strength: float,
    density: float,
    subspace: int,
    iterations: int,
    learning_rate: float,
    others: str,
) -> TaskVector:
    matrices = [name for name in vectors[0] if vectors[0][name].ndim == 2 and vectors[0][name].numel()]
    entries = sum(vectors[0][name].numel() for name in matrices)

    def magnitudes(stride: int) -> Iterator[Tensor]:
        return (piece.abs_() for name in matrices for piece in chunks(vectors, name, stride=stride))

    limit = torch.zeros(len(vectors), 1, 1)
    if entries:
        limit = kth_largest(magnitudes, kept_count(density, entries), entries)[:, None, None]
    merged: TaskVector = {}
    for name in vectors[0]:
        deltas = stack(vectors, name)
        if name not in matrices:
            merged[name] = left(deltas, others)
            continue
        norms = torch.linalg.vector_norm(deltas, dim=(1, 2))
        lambdas = torch.where(norms > 0, strength / torch.where(norms > 0, norms, 1), 0.0)
        delta = shift(deltas, lambdas, shared_basis(deltas, subspace), int(iterations), learning_rate)
        kept = (deltas.abs() >= limit) & (deltas != 0)
        merged[name] = (lambdas[:, None, None] * (deltas + delta) * kept).sum(dim=0)
    return merged


OPERATOR = Operator(
    "doge_ta",
    merge,
    title="DOGE task arithmetic (adaptive projective gradient descent)",
    paper="arXiv:2501.01230",
    formula="merged = sum_t (strength / |Delta_t|) (Delta_t + delta) mask_t, delta learned off the shared subspace",
    grid={
        "strength": (0.07, 0.05, 0.1),
        "density": (0.3,),
        "subspace": (6,),
        "iterations": (400,),
        "learning_rate": (1e-4,),
        "others": ("zero", "mean"),
    },
    coefficients=SPECTRAL,
    cost="iterative",
    non_matrices="left at the pretrained weights (as published), or averaged with others=mean",
    unlawful={
        "scale": "every matrix is scaled to the same norm, and Adam's step has an absolute size",
        "identity": "scales by strength / norm and keeps the largest entries only",
        "agreement": "leaves parameters that are not matrices at the pretrained weights",
    },
    version=2,
)
