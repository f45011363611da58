"""Fisher merging (Matena & Raffel, 2022): the average weighted by each expert's diagonal Fisher information.

    merged = sum_t F_t * tau_t / sum_t F_t

entry by entry; the same on weights and on task vectors. With `normalise`, each F_t is first divided by its norm over
the whole model (FusionBench), so that no expert wins by the size of its gradients. Entries below `floor` of the largest
F of any expert count as that much: where nobody knows anything, the result is the average.

Board: calibration. The harness supplies `fisher`, one dict for each expert: parameter name -> mean squared gradient of
log p(y | x), same shape, y sampled from the expert's own prediction (unlabelled) or the true label; it records which.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from methods.operator import FIXED, Operator
from methods.vectors import TaskVector, Vectors, norm


def merge(vectors: Vectors, *, fisher: Sequence[Mapping[str, Tensor]], floor: float, normalise: bool) -> TaskVector:
    if len(fisher) != len(vectors):
        raise ValueError(f"fisher: {len(fisher)} Fisher informations for {len(vectors)} experts")
    scales = []
    for task, each in enumerate(fisher):
        for name in vectors[0]:
            if name not in each or each[name].shape != vectors[0][name].shape:
                raise ValueError(f"fisher: expert {task} has no Fisher information of the shape of {name!r}")
        size = norm(each) if normalise else 1.0
        scales.append(1 / size if size > 0 else 1.0)
    peak = max(
        (float(f[n].max()) * s for f, s in zip(fisher, scales, strict=True) for n in vectors[0] if f[n].numel()),
        default=0.0,
    )
    least = floor * peak if peak > 0 else 1.0
    merged: TaskVector = {}
    for name in vectors[0]:
        value, weight = torch.zeros_like(vectors[0][name]), torch.zeros_like(vectors[0][name])
        for vector, each, scale in zip(vectors, fisher, scales, strict=True):
            f = (each[name].to(value.dtype) * scale).clamp_(min=least)
            value.addcmul_(f, vector[name])
            weight += f
        merged[name] = value.div_(weight)
    return merged


OPERATOR = Operator(
    "fisher",
    merge,
    title="Fisher merging (diagonal)",
    paper="arXiv:2111.09832",
    formula="merged = sum_t F_t tau_t / sum_t F_t, F_t = diagonal Fisher information",
    grid={"floor": (1e-6,), "normalise": (True, False)},
    coefficients=FIXED,
    board="calibration",
    needs=("fisher",),
    cost="global",
)
