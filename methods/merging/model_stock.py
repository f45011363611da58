"""Model Stock (Jang et al., 2024): pull the average towards the pretrained weights by the angle between experts.

For each tensor, with c the mean cosine over pairs of tasks,

    t = T c / (1 + (T - 1) c)        merged = t * mean_t tau_t

The paper has one angle for several tasks and does not say which mean: `angle_mean` "cosine" averages cosines
(mergekit), "angle" averages angles (FusionBench). A negative mean cosine counts as 0 (the formula is unbounded near
-1/(T-1)), so orthogonal tasks, which OrthoReg aims for, give zero-shot weights. One task has t = 1.
"""

import torch
from torch import Tensor

from methods.operator import FIXED, Operator
from methods.vectors import TaskVector, Vectors, gram, total


def mean_cosine(products: Tensor, kind: str) -> Tensor:
    """Mean over pairs of tasks of the cosine, from their inner products [tasks, tasks]; zero vectors count as 0."""
    inverse = products.diagonal().sqrt().clamp(min=torch.finfo(torch.float64).tiny).reciprocal()
    first, second = torch.triu_indices(len(products), len(products), offset=1)
    cosines = (products * inverse * inverse[:, None])[first, second].clamp(-1, 1)
    return cosines.mean() if kind == "cosine" else cosines.arccos().mean().cos()


def merge(vectors: Vectors, *, angle_mean: str) -> TaskVector:
    tasks, merged = len(vectors), {}
    for name in vectors[0]:
        c = float(mean_cosine(gram(vectors, name), angle_mean).clamp(min=0)) if tasks > 1 else 1.0
        merged[name] = total(vectors, name).mul_(c / (1 + (tasks - 1) * c))
    return merged


OPERATOR = Operator(
    "model_stock",
    merge,
    title="Model Stock",
    paper="arXiv:2403.19522",
    formula="c = mean pairwise cosine; merged = T c / (1 + (T-1) c) mean_t tau_t",
    grid={"angle_mean": ("cosine", "angle")},
    coefficients=FIXED,
    per_tensor=True,
)
