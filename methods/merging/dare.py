"""DARE (Yu et al., 2024): drop most entries at random, rescale the rest, add.

    m_t ~ Bernoulli(1 - drop)        merged = sum_t m_t * tau_t * rescale

* `rescale`: "inverse" divides by the keep probability, so that the expectation is task arithmetic (paper); "l1"
  restores each tensor's L1 norm (mergekit); "none" does neither.
* Masks come from 16-bit random numbers, so the keep probability is a multiple of 1/65536; the rescaling uses that one.
* `seed` makes a mask a pure function of (seed, task, tensor name): the same bits in memory and out of core. Report at
  least three seeds.
"""

import torch
from torch import Tensor

from methods.operator import SUMS, Operator
from methods.vectors import TaskVector, Vectors, generator

LEVELS = 1 << 16
PIECE = 1 << 16  # a multiple of four, so that pieces and whole tensors draw the same numbers


def kept_levels(drop: float) -> int:
    """How many of the 65536 random values keep an entry, at least one."""
    return max(1, round((1 - drop) * LEVELS))


def sparsify(tensor: Tensor, drop: float, rescale: str, source: torch.Generator) -> Tensor:
    """A new tensor with entries dropped at random and the rest rescaled."""
    levels = kept_levels(drop)
    if levels == LEVELS:
        return tensor.clone()
    flat = tensor.reshape(-1)
    out = torch.empty_like(flat)
    scale = LEVELS / levels if rescale == "inverse" else 1.0
    for start in range(0, flat.numel(), PIECE):
        here = slice(start, min(start + PIECE, flat.numel()))
        size = here.stop - start
        words = torch.empty((size + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=source)
        drawn = words.view(torch.int16)[:size]  # four draws a word, uniform on -32768 .. 32767
        torch.mul(flat[here], (drawn < levels - LEVELS // 2).to(flat.dtype).mul_(scale), out=out[here])
    if rescale == "l1":
        after = out.abs().sum()
        if after > 0:
            out *= tensor.abs().sum() / after
    return out.view(tensor.shape)


def merge(vectors: Vectors, *, drop: float, rescale: str, seed: int) -> TaskVector:
    merged: TaskVector = {}
    for name in vectors[0]:
        out = torch.zeros_like(vectors[0][name])
        for task, vector in enumerate(vectors):
            out += sparsify(vector[name], drop, rescale, generator(seed, "dare", task, name))
        merged[name] = out
    return merged


RANDOM_DROP = "drops entries at random, so a small tensor may lose all of them"
OPERATOR = Operator(
    "dare",
    merge,
    title="DARE with task arithmetic",
    paper="arXiv:2311.03099",
    formula="m_t ~ Bernoulli(1 - drop); merged = sum_t m_t tau_t / (1 - drop)",
    grid={"drop": (0.9, 0.5, 0.8, 0.95), "rescale": ("inverse",)},
    coefficients=SUMS,
    random=True,
    per_tensor=True,
    unlawful={"agreement": RANDOM_DROP, "identity": RANDOM_DROP, "order": "each task has its own random mask"},
)
