"""ACE-Merging (CVPR 2026): regression against input covariances estimated from the updates themselves.

For each matrix with row-centred updates C_t = Delta_t - mean over rows and Sigma_t = C_t^T C_t,

    merged = (sum_t C_t (Sigma_t + e_t I)) (sum_t (Sigma_t + e_t I) + 1 c)^-1,   c = column means of sum_t Sigma_t

If the spread of the tasks' energies gamma = var(log tr) / mean(log tr)^2, tr = |Delta_t|^2, exceeds `threshold`, each
Sigma_t and ridge is divided by its trace, c by the mean energy, and an isotropic refinement is added: the polar factor
of the top `fraction` of singular vectors of  merged + sum_t Delta_t (Sigma_t - mean_j (Sigma_j + e_j I))  times their
mean singular value.

Follows the official code (`src/merge/strategy.py`), where the ridge is 1e-2 (the paper's text: 1e-5) and the numerator
uses the centred updates (`numerator` "centred"; "plain" uses Delta_t, under which one task is returned). gamma and the
ridge have absolute scales. Solved in float64. Parameters that are not 2-D are averaged.
"""

import torch
from torch import Tensor

from methods.linalg import svd
from methods.operator import MEANS, Operator
from methods.vectors import per_tensor

TINY = 1e-12


@per_tensor
def merge(deltas: Tensor, *, ridge: float, threshold: float, fraction: float, numerator: str) -> Tensor:
    if deltas.ndim != 3 or not deltas.numel():
        return deltas.mean(dim=0)
    deltas = deltas.double()
    columns = deltas.shape[2]
    energy = deltas.square().sum(dim=(1, 2))
    logs = (energy + TINY).log()
    spread = logs.var() / (logs.mean().square() + TINY) if len(logs) > 1 else logs.new_zeros(())
    uneven = bool(spread > threshold)
    a, b, plain = deltas.new_zeros(columns, columns), torch.zeros_like(deltas[0]), []
    for delta in deltas:
        centred = delta - delta.mean(dim=0, keepdim=True)
        sigma = centred.T @ centred
        trace = sigma.diagonal().sum() + TINY if uneven else 1.0
        plain.append(sigma / trace)
        regular = plain[-1] + ridge / trace * torch.eye(columns, dtype=torch.float64)
        a += regular
        b += (centred if numerator == "centred" else delta) @ regular
    prior = sum(plain).mean(dim=0, keepdim=True) / (energy.mean() + TINY if uneven else 1.0)
    merged = torch.linalg.solve(a + prior, b, left=False)
    if uneven:
        mean = a / len(deltas)
        residual = sum(delta @ (sigma - mean) for delta, sigma in zip(deltas, plain, strict=True))
        top = svd(merged + residual, max(1, int(fraction * min(merged.shape))))
        if len(top.s):
            merged = merged + top.s.mean() * top.u @ top.v.T
    return merged


OPERATOR = Operator(
    "ace",
    merge,
    title="ACE-Merging (adaptive covariance estimation)",
    paper="arXiv:2603.02945",
    formula="Sigma_t = C_t^T C_t; merged = (sum_t C_t Sigma_t)(sum_t Sigma_t + prior)^-1 (+ isotropic part if uneven)",
    grid={"ridge": (1e-2, 1e-5), "threshold": (0.3,), "fraction": (0.3,), "numerator": ("centred", "plain")},
    coefficients=MEANS,
    cost="spectral",
    per_tensor=True,
    non_matrices="averaged over tasks (official code)",
    unlawful={
        "scale": "the ridge and the test for uneven energies have absolute scales",
        "identity": "removes the mean row and shrinks by the ridge",
        "agreement": "removes the mean row, all there is of a matrix with one row",
    },
    version=2,
)
