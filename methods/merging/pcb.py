"""PCB-Merging (Du et al., 2024): weight every entry by how it competes within and between tasks.

With tau the task vectors, a_t = |tau_t| clamped to its 1 % and 99 % quantiles and n_t = a_t scaled to [0, 1],

    intra_t = exp(T n_t^2)
    inter_t = tanh(tau_t * sum_j sign(tau_j) n_j)     variant "vision" (official vision_source_code/pcb.py)
              tanh(tau_t * sum_j tau_j)               variant "plain"  (official pcb-merging.py; quantiles 0.01 %)
    w_t     = intra_t * inter_t, all but its largest `ratio` share clamped, scaled to [0, 1]
    merged  = strength * sum_t w_t sign(tau_t) a_t / sum_t w_t

All quantiles and scalings are over the whole task vector, so the result depends on what is in it. The official files
differ from each other by 11 % (FIELD 1.5); the vision one, with strength 1.2 and ratio 0.05, is the default. A scale
without range (all weights equal) counts as 1, so that a vector of equal magnitudes is averaged and not divided by zero.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from methods.operator import MEANS, Operator
from methods.selection import kth_largest
from methods.vectors import TaskVector, Vectors, chunks, count

QUANTILE = {"vision": 0.01, "plain": 0.0001}


def _unit(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x clamped to [low, high] and scaled to [0, 1]; 1 where the range is empty."""
    width = high - low
    scaled = (x.clamp(low, high) - low) / torch.where(width > 0, width, 1)
    return torch.where(width > 0, scaled, 1.0)


def _limits(vectors: Vectors, variant: str, entries: int) -> tuple[Tensor, Tensor]:
    def magnitudes(stride: int) -> Iterator[Tensor]:
        return (piece.abs_() for name in vectors[0] for piece in chunks(vectors, name, stride=stride))

    low_at, high_at = int(entries * QUANTILE[variant]), max(int(entries * (1 - QUANTILE[variant]) - 1), 0)
    low = kth_largest(magnitudes, entries - low_at, entries)
    high = kth_largest(magnitudes, entries - max(high_at, low_at), entries)
    return low[:, None], high[:, None]


def _scores(low: Tensor, high: Tensor, variant: str) -> Callable[[Tensor], Tensor]:
    def score(tau: Tensor) -> Tensor:
        n = _unit(tau.abs(), low, high)
        rivals = (tau.sign() * n if variant == "vision" else tau).sum(dim=0)
        return torch.exp(len(tau) * n.square()).mul_(torch.tanh(tau * rivals))

    return score


def merge(vectors: Vectors, *, ratio: float, strength: float, variant: str) -> TaskVector:
    entries = count(vectors)
    if not entries:
        return {name: vectors[0][name].clone() for name in vectors[0]}
    low, high = _limits(vectors, variant, entries)
    score = _scores(low, high, variant)

    def scores(stride: int) -> Iterator[Tensor]:
        return (score(piece) for name in vectors[0] for piece in chunks(vectors, name, stride=stride))

    floor = kth_largest(scores, entries - min(int(entries * (1 - ratio)), entries - 1), entries)[:, None]
    peak = floor.clone()
    for piece in scores(1):
        torch.maximum(peak, piece.amax(dim=1, keepdim=True), out=peak)
    merged: TaskVector = {}
    for name in vectors[0]:
        out, start = torch.empty_like(vectors[0][name]).reshape(-1), 0
        for tau in chunks(vectors, name):
            weight = _unit(score(tau), floor, peak)
            value = tau.sign() * tau.abs().clamp(low, high)
            whole = weight.sum(dim=0)
            out[start : start + tau.shape[1]] = (
                strength * (weight * value).sum(dim=0) / torch.where(whole > 0, whole, 1)
            )
            start += tau.shape[1]
        merged[name] = out.view(vectors[0][name].shape)
    return merged


OPERATOR = Operator(
    "pcb",
    merge,
    title="PCB-Merging",
    paper="arXiv:2410.02396",
    formula="w_t = top ratio of exp(T n_t^2) tanh(tau_t sum_j n_j); merged = strength sum_t w_t tau_t / sum_t w_t",
    grid={"ratio": (0.05, 0.1, 0.2), "strength": (1.2,), "variant": ("vision", "plain")},
    coefficients=MEANS,
    cost="global",
    unlawful={
        "scale": "tanh of a product of two task vectors has an absolute scale",
        "identity": "keeps only the entries whose score is in the top share",
    },
)
