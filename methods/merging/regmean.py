"""RegMean (Jin et al., 2023): the linear layer whose outputs are nearest to all experts' outputs on their own inputs.

    merged = (sum_t tau_t G_t) (sum_t G_t)^-1,   G_t = X_t^T X_t / n with off-diagonal entries times `off_diagonal`

for a weight [out, in]; the same formula on weights and on task vectors, since the pretrained part is common. `proj`,
which a vision tower applies as x @ proj, has its inputs along dimension 0; a convolution kernel [out, in, k, k] counts
as a matrix with in k^2 columns. Solved in float64 with ridge * trace / in on the diagonal (FusionBench inverts without
one). What has no Gram matrix (biases, norms, embeddings) is averaged.

Board: calibration. The harness supplies `grams`, one dict for each expert: parameter name -> [in, in] mean outer
product of that layer's inputs over tokens and unlabelled training images of the expert's task, run through the expert
itself.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from methods.operator import FIXED, Operator
from methods.vectors import TaskVector, Vectors, stack, total


def solve(deltas: Tensor, grams: Sequence[Tensor], off_diagonal: float, ridge: float, first: bool) -> Tensor:
    """The regression of [tasks, *shape] updates on their input Gram matrices; `first`: inputs along dimension 0."""
    shape = deltas.shape[1:]
    flat = deltas.double() if deltas.ndim == 3 else deltas.double().reshape(len(deltas), shape[0], -1)
    flat = flat.transpose(1, 2) if first else flat
    a, b = flat.new_zeros(flat.shape[2], flat.shape[2]), torch.zeros_like(flat[0])
    for delta, gram in zip(flat, grams, strict=True):
        if gram.shape != a.shape:
            raise ValueError(f"regmean: a Gram matrix is {tuple(gram.shape)}, the layer has {a.shape[0]} inputs")
        g = gram.double() * off_diagonal
        g.diagonal().copy_(gram.double().diagonal())
        a += g
        b += delta @ g
    level = a.diagonal().mean()
    if level == 0:
        return deltas.mean(dim=0)
    a.diagonal().add_(ridge * level)
    merged = torch.linalg.solve(a / level, b / level, left=False)
    return (merged.T if first else merged).reshape(shape)


def merge_some(
    vectors: Vectors, names: Sequence[str], grams: Sequence[Mapping[str, Tensor]], off_diagonal: float, ridge: float
) -> TaskVector:
    """The regression for the named parameters, the average where there is no Gram matrix."""
    merged: TaskVector = {}
    for name in names:
        held = [each[name] for each in grams if name in each]
        if held and len(held) < len(vectors):
            raise ValueError(f"regmean: {len(held)} of {len(vectors)} experts have a Gram matrix for {name!r}")
        if held:
            first = name.rpartition(".")[2] == "proj"
            merged[name] = solve(stack(vectors, name), held, off_diagonal, ridge, first)
        else:
            merged[name] = total(vectors, name).div_(len(vectors))
    return merged


def merge(vectors: Vectors, *, grams: Sequence[Mapping[str, Tensor]], off_diagonal: float, ridge: float) -> TaskVector:
    return merge_some(vectors, list(vectors[0]), grams, off_diagonal, ridge)


OPERATOR = Operator(
    "regmean",
    merge,
    title="RegMean",
    paper="arXiv:2212.09849",
    formula="merged = (sum_t tau_t G_t)(sum_t G_t)^-1, G_t = Gram matrix of the layer's inputs",
    grid={"off_diagonal": (0.95, 0.9, 0.5), "ridge": (1e-6, 1e-4)},
    coefficients=FIXED,
    board="calibration",
    needs=("grams",),
    cost="spectral",
    per_tensor=True,
    non_matrices="averaged over tasks, as is every parameter without a Gram matrix",
)
