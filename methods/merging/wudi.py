"""WUDI-Merging (Cheng et al., 2025): the update whose difference to each task does not touch what that task reads.

    minimise  sum_t |(M - Delta_t) Delta_t^T|^2 / |Delta_t|^2   over M, for each matrix

* `wudi`: the published procedure, 300 Adam steps of 1e-5 from M = sum_t Delta_t. It moves an entry by at most 3e-3 and
  is an early stop, not the minimiser; its step has an absolute size. The gradient 2 (M A - B) with A = sum_t Delta_t^T
  Delta_t / |Delta_t|^2 and B = sum_t Delta_t Delta_t^T Delta_t / |Delta_t|^2 is written down, so a step costs one
  product.
* `wudi_closed`: the minimiser M = B (A + ridge * trace(A) / n * I)^-1 in float64. `weights` "energy" is WUDI's
  1 / |Delta_t|^2, "equal" is ActMat. The ridge decides ill-conditioned directions (0 against 1e-8: 11 % on c_proj).

All 2-D parameters are merged so (FusionBench); the official code does it in the blocks' attention and MLP and leaves
all else at the pretrained weights. `others`: what is not 2-D is averaged ("mean", FusionBench) or left ("zero",
official).
"""

import torch
from torch import Tensor

from methods.adam import Adam
from methods.operator import FIXED, MEANS, Operator
from methods.vectors import per_tensor


def normal_equations(deltas: Tensor, weights: str = "energy") -> tuple[Tensor, Tensor]:
    """(A [n, n], B [m, n]) of the quadratic |(M - Delta_t) Delta_t^T|^2 summed over tasks; zero tasks are left out."""
    a, b = deltas.new_zeros(deltas.shape[2], deltas.shape[2]), torch.zeros_like(deltas[0])
    for delta in deltas:
        energy = delta.square().sum()
        if energy > 0:
            gram = (delta.T @ delta) / (energy if weights == "energy" else 1.0)
            a += gram
            b += delta @ gram
    return a, b


def left(deltas: Tensor, others: str) -> Tensor:
    """What becomes of a parameter that is not a matrix."""
    return deltas.mean(dim=0) if others == "mean" else torch.zeros_like(deltas[0])


@per_tensor
def merge(deltas: Tensor, *, iterations: int, learning_rate: float, others: str) -> Tensor:
    if deltas.ndim != 3:
        return left(deltas, others)
    a, b = normal_equations(deltas)
    m = deltas.sum(dim=0)
    adam = Adam(m, learning_rate)
    for _ in range(int(iterations)):
        adam.step(torch.addmm(b, m, a, beta=-2, alpha=2))
    return m


@per_tensor
def merge_closed(deltas: Tensor, *, ridge: float, weights: str, others: str) -> Tensor:
    if deltas.ndim != 3:
        return left(deltas, others)
    a, b = normal_equations(deltas.double(), weights)
    level = a.diagonal().mean() if a.numel() else a.sum()
    if level == 0:
        return torch.zeros_like(deltas[0])
    a.diagonal().add_(ridge * level)
    factor, failed = torch.linalg.cholesky_ex(a / level)
    if failed:
        return b / level @ torch.linalg.pinv(a / level, hermitian=True)
    return torch.cholesky_solve(b.T / level, factor).T


OPERATOR = Operator(
    "wudi",
    merge,
    title="WUDI-Merging (300 Adam steps)",
    paper="arXiv:2503.08099",
    formula="from M = sum_t Delta_t, 300 Adam steps on sum_t |(M - Delta_t) Delta_t^T|^2 / |Delta_t|^2",
    grid={"iterations": (300,), "learning_rate": (1e-5,), "others": ("mean", "zero")},
    coefficients=FIXED,
    cost="iterative",
    per_tensor=True,
    non_matrices="averaged over tasks, or left at the pretrained weights with others=zero",
    unlawful={"scale": "Adam's step has an absolute size"},
)
CLOSED = OPERATOR.with_(
    name="wudi_closed",
    function=merge_closed,
    title="WUDI-Merging (closed form)",
    formula="M = (sum_t Delta_t G_t) (sum_t G_t + ridge)^-1, G_t = Delta_t^T Delta_t / |Delta_t|^2",
    grid={"ridge": (1e-8, 1e-6, 1e-4), "weights": ("energy", "equal"), "others": ("mean", "zero")},
    coefficients=MEANS,
    cost="spectral",
    unlawful={},
)
