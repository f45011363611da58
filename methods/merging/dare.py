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


def thin(piece: Tensor, levels: int, scale: float, source: torch.Generator, out: Tensor) -> Tensor:
    """A flat piece with each entry kept by the chance of `levels` / LEVELS and scaled, or zero; written to `out`."""
    if levels == LEVELS:
        return out.copy_(piece)
    words = torch.empty((len(piece) + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=source)
    drawn = words.view(torch.int16)[: len(piece)]  # four draws a word, uniform on -32768 .. 32767
    keep = torch.lt(drawn, levels - LEVELS // 2, out=torch.empty_like(piece))  # floats: faster than booleans
    return torch.mul(piece, keep.mul_(scale), out=out)


def chance(drop: float, rescale: str) -> tuple[int, float]:
    """How many levels keep an entry, and what it is then multiplied by."""
    levels = kept_levels(drop)
    return levels, LEVELS / levels if rescale == "inverse" else 1.0


def restore_l1(out: Tensor, tensor: Tensor) -> None:
    """Scale `out` in place to the L1 norm of `tensor`, unless nothing of it is left."""
    after = out.abs().sum()
    if after > 0:
        out *= tensor.abs().sum() / after


def sparsify(tensor: Tensor, drop: float, rescale: str, source: torch.Generator) -> Tensor:
    """A new tensor with entries dropped at random and the rest rescaled."""
    levels, scale = chance(drop, rescale)
    flat = tensor.reshape(-1)
    out = torch.empty_like(flat)
    for piece, kept in zip(flat.split(PIECE), out.split(PIECE), strict=True):
        thin(piece, levels, scale, source, kept)
    if rescale == "l1" and levels < LEVELS:
        restore_l1(out, tensor)
    return out.view(tensor.shape)


def merge(vectors: Vectors, *, drop: float, rescale: str, seed: int) -> TaskVector:
    levels, scale = chance(drop, rescale)
    merged: TaskVector = {}
    for name in vectors[0]:
        merged[name] = out = torch.zeros_like(vectors[0][name], memory_format=torch.contiguous_format)
        sources = [generator(seed, "dare", task, name) for task in range(len(vectors))]
        if rescale == "l1":  # needs a whole tensor's norm
            for vector, source in zip(vectors, sources, strict=True):
                out += sparsify(vector[name], drop, rescale, source)
            continue
        flat = [x.reshape(-1).split(PIECE) for x in (out, *(vector[name] for vector in vectors))]
        held = torch.empty_like(out.view(-1)[:PIECE])
        for total, *pieces in zip(*flat, strict=True):
            for piece, source in zip(pieces, sources, strict=True):
                total += thin(piece, levels, scale, source, held[: len(piece)])
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
