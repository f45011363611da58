"""SVC, singular value calibration (2026): undo the inflation of directions that several tasks share.

For each singular direction r of the merged matrix, merged = sum_r s_r u_r v_r^T, with a_r = u_r^T merged and a_rt =
u_r^T Delta_t,

    g_rt = <a_r, a_rt> / |a_rt|^2        s_r <- s_r / mean_t max(floor, g_rt),   floor = svc_floor / T

`svc_rule` "code" is the official repository's: divide by max(floor, mean_t g_rt) where all g_rt are positive, else
leave s_r. Parameters that are not 2-D, and embeddings (official code; FusionBench calibrates them), stay as they are.
The paper uses svc_floor 1; T (a floor of 1) is recommended after TSV-M. Where a task has nothing in a direction, g_rt
counts as 0.
"""

import torch
from torch import Tensor

from methods.linalg import svd
from methods.modifiers.record import Modifier
from methods.vectors import TaskVector, Vectors


def calibrate(merged: Tensor, deltas: list[Tensor], floor: float, rule: str) -> Tensor:
    """The matrix with its singular values divided by how much each direction exceeds the tasks' own, float64."""
    whole = svd(merged)
    ours = whole.s[:, None] * whole.v.T  # [rank, n], row r is u_r^T merged
    ratios = []
    for delta in deltas:
        theirs = whole.u.T @ delta.double()
        energy = theirs.square().sum(dim=1)
        ratios.append(torch.where(energy > 0, (ours * theirs).sum(dim=1) / torch.where(energy > 0, energy, 1), 0.0))
    ratio = torch.stack(ratios)
    if rule == "code":
        divisor = torch.where((ratio > 0).all(dim=0), ratio.mean(dim=0).clamp(min=floor), 1.0)
    else:
        divisor = ratio.clamp(min=floor).mean(dim=0)
    return (whole.u * (whole.s / divisor)) @ whole.v.T


def modify(merged: TaskVector, vectors: Vectors, *, svc_floor: float, svc_rule: str) -> TaskVector:
    if svc_floor <= 0:
        raise ValueError(f"svc: option svc_floor={svc_floor} is not positive")
    return {
        name: calibrate(x, [vector[name] for vector in vectors], svc_floor / len(vectors), svc_rule)
        if x.ndim == 2 and "embedding" not in name
        else x
        for name, x in merged.items()
    }


MODIFIER = Modifier(
    "svc",
    modify,
    when="after",
    title="singular value calibration",
    paper="arXiv:2602.05536",
    formula="s_r <- s_r / mean_t max(floor, <a_r, a_rt> / |a_rt|^2)",
    grid={"svc_floor": (1.0, 0.5, 8.0), "svc_rule": ("paper", "code")},
    per_tensor=True,
)
