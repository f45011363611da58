"""EMR-Merging (Huang et al., 2024): one unified vector, and for each task a mask and a scale.

    s = sign(sum_t tau_t), - where it is zero        unified = s * max{ |tau_t| : sign(tau_t) = s }
    merged_t = r_t * unified * 1[tau_t * unified > 0],   r_t = sum_l mean|tau_tl| / sum_l mean|masked unified_l|

`rescaler` "tensor" takes means of each tensor and adds those (official code: small tensors count as much as large
ones), "model" takes sums over the whole model. A task that loses every election has scale 1. Storage: one model, one
bit a parameter and task, one number a task. Board: task id.
"""

import torch
from torch import Tensor

from methods.operator import FIXED, Operator
from methods.vectors import TaskVector, Vectors, total


def unify(vectors: Vectors, name: str) -> Tensor:
    """The entry of largest magnitude among those with the elected sign."""
    sign = torch.where(total(vectors, name) > 0, 1.0, -1.0).to(vectors[0][name].dtype)
    largest = torch.zeros_like(sign)
    for vector in vectors:
        torch.maximum(largest, vector[name] * sign, out=largest)
    return largest * sign


def merge(vectors: Vectors, *, rescaler: str) -> list[TaskVector]:
    unified = {name: unify(vectors, name) for name in vectors[0]}
    merged = []
    for vector in vectors:
        masked = {name: unified[name] * (vector[name] * unified[name] > 0) for name in unified}
        own = _size({name: vector[name] for name in unified}, rescaler)
        left = _size(masked, rescaler)
        merged.append({name: x * (own / left if left > 0 else 1.0) for name, x in masked.items()})
    return merged


def _size(vector: TaskVector, rescaler: str) -> float:
    sums = ((x.abs().sum(dtype=torch.float64), x.numel()) for x in vector.values() if x.numel())
    return float(sum(size / entries if rescaler == "tensor" else size for size, entries in sums))


OPERATOR = Operator(
    "emr",
    merge,
    title="EMR-Merging (elect, mask, rescale)",
    paper="arXiv:2405.17461",
    formula="merged_t = r_t * unified * [tau_t unified > 0], unified = largest entry of the elected sign",
    grid={"rescaler": ("tensor", "model")},
    coefficients=FIXED,
    board="task-id",
    cost="global",
    per_task=True,
)
