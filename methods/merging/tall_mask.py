"""TALL masks (Wang et al., 2024): the multi-task vector, masked for each task.

    tau = sum_t tau_t        merged_t = tau * 1[ |tau_t| > threshold * |tau - tau_t| ]

`tau_t` is the task vector itself, as in the official code; FusionBench's port compares |theta_0 - tau_t| and keeps 95 %
of a Gaussian toy instead of 36 %. The official code picks the threshold for each task on validation; here it is one
option for all. Storage: one model and one bit a parameter and task. Board: task id.
"""

from torch import Tensor

from methods.merging.consensus import uses
from methods.operator import FIXED, Operator
from methods.vectors import TaskVector, Vectors, stack


def merge(vectors: Vectors, *, threshold: float) -> list[TaskVector]:
    merged: list[TaskVector] = [{} for _ in vectors]
    for name in vectors[0]:
        deltas = stack(vectors, name)
        tau: Tensor = deltas.sum(dim=0)
        for task, mask in enumerate(uses(deltas, tau, threshold)):
            merged[task][name] = tau * mask
    return merged


OPERATOR = Operator(
    "tall_mask",
    merge,
    title="TALL masks",
    paper="arXiv:2405.07813",
    formula="merged_t = tau [ |tau_t| > threshold |tau - tau_t| ], tau = sum_t tau_t",
    grid={"threshold": (0.4, 0.2, 0.3, 0.5, 0.6)},
    coefficients=FIXED,
    board="task-id",
    per_tensor=True,
    per_task=True,
)
