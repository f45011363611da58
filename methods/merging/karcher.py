"""Karcher mean: the Frechet mean of the directions of the task vectors on the sphere, times the mean of their norms.

For each tensor with unit vectors u_t, iterate from the normalised mean (iterations <= 10, stop at 1e-5; mergekit):

    g = (1/T) sum_t theta_t / sin(theta_t) (u_t - cos(theta_t) x),  cos(theta_t) = <x, u_t>
    x <- cos|g| x + sin|g| g / |g|                merged = mean_t |tau_t| * x

Every iterate is a combination x = sum_t a_t u_t, so the loop runs on the T x T Gram matrix in float64 and the tensors
are read twice in all. mergekit applies it to weights; here it acts on task vectors. Zero vectors count in the norm but
have no direction; directions that cancel have no mean, and give zero (mergekit returns the first expert: order would
matter).
"""

import torch
from torch import Tensor

from methods.operator import MEANS, Operator
from methods.vectors import CACHED, TaskVector, Vectors, gram

STOP = 1e-5


def coefficients(unit: Tensor, iterations: int) -> Tensor:
    """Coefficients [tasks] of the Frechet mean over unit vectors with this Gram matrix; zeros where there is none."""
    weight = (unit.diagonal() > 0).to(unit.dtype)
    weight /= weight.sum().clamp(min=1)
    size = (weight @ unit @ weight).clamp(min=0).sqrt()
    if size < STOP:
        return torch.zeros_like(weight)
    a = weight / size
    for _ in range(iterations):
        cosine = (unit @ a).clamp(-1, 1)
        angle = cosine.arccos()
        pull = torch.where(angle < STOP, 0.0, weight * angle / angle.sin().clamp(min=STOP))
        g = pull - (pull @ cosine) * a
        step = (g @ unit @ g).clamp(min=0).sqrt()
        if step < STOP:
            break
        a = step.cos() * a + step.sin() / step * g
        a = a / (a @ unit @ a).sqrt()
    return a


def merge(vectors: Vectors, *, iterations: int) -> TaskVector:
    merged: TaskVector = {}
    for name in vectors[0]:
        products = gram(vectors, name)
        norms = products.diagonal().sqrt()
        inverse = torch.where(norms > 0, 1 / norms.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
        unit = products * inverse * inverse[:, None]
        weights = norms.mean() * coefficients(unit, int(iterations)) * inverse
        merged[name] = combine(vectors, name, weights)
    return merged


def combine(vectors: Vectors, name: str, weights: Tensor) -> Tensor:
    """sum_t weights[t] * tau_t for one tensor, without stacking the tasks."""
    tensors, numbers = [vector[name] for vector in vectors], weights.tolist()
    out = torch.zeros_like(tensors[0], memory_format=torch.contiguous_format)
    # Piece by piece, so that the partial sum stays in the core's cache.
    for piece, *parts in zip(*(x.reshape(-1).split(CACHED) for x in (out, *tensors)), strict=True):
        for part, weight in zip(parts, numbers, strict=True):
            piece.add_(part, alpha=weight)
    return out


OPERATOR = Operator(
    "karcher",
    merge,
    title="Karcher mean",
    paper="doi:10.1002/cpa.3160300502",
    formula="merged = mean_t |tau_t| * Frechet mean on the sphere of tau_t / |tau_t|, tensor by tensor",
    grid={"iterations": (10,)},
    coefficients=MEANS,
    per_tensor=True,
)
