"""DELLA (Deep et al., 2024): keep large entries with higher probability, then elect signs and average.

Within each row (last dimension; biases are one row) of n entries, an entry of magnitude rank r (0 is the smallest) is
kept with probability p and divided by it, and the survivors are merged as in TIES:

    p = density - epsilon + 2 epsilon r / (n - 1)        merged = mean{ m tau_t / p : sign = elected }

* Ranks come from a histogram of the magnitudes' leading bits (64 bins an octave), not from two sorts: magnitudes within
  1.6 % of each other share their middle rank, which moves p by less than 0.01 and keeps the rescaling exactly unbiased.
* `rescale`: "inverse" is 1/p (paper); "l1" restores the tensor's L1 norm (mergekit); "none".
* Rows with one entry have p = density (mergekit divides by zero there). Convolution kernels use their last dimension.
"""

from functools import partial

import torch
from torch import Tensor

from methods.merging import ties
from methods.merging.dare import LEVELS
from methods.operator import MEANS, Operator
from methods.vectors import TaskVector, Vectors, chunks, generator

BINS, SHIFT = 512, 17  # float32 has 23 mantissa bits; dropping 17 leaves 64 bins an octave, 512 bins are 8 octaves
NARROW, PIECE = 128, 1 << 15


def rank_share(tensor: Tensor) -> Tensor:
    """The magnitude rank of each entry within its row as a share in [0, 1], ties sharing the middle; same shape."""
    width = tensor.shape[-1] if tensor.ndim else 1
    size = tensor.detach().to(torch.float32).abs().reshape(-1, max(width, 1))
    if width < NARROW:  # more bins than entries: sorting is cheaper
        ordered = size.sort(dim=1).values
        below = torch.searchsorted(ordered, size)
        upto = torch.searchsorted(ordered, size, right=True)
        share = (below + upto - 1).to(tensor.dtype) / (2 * max(width - 1, 1))
        return (share if width > 1 else share.fill_(0.5)).view(tensor.shape)
    code = size.view(torch.int32) >> SHIFT  # leading bits of a positive float order like the float
    code = (code - code.amax(dim=1, keepdim=True) + BINS - 1).clamp_(min=0)
    code += torch.arange(len(code), dtype=torch.int32)[:, None] * BINS
    held = torch.bincount(code.view(-1), minlength=len(code) * BINS).view(len(code), BINS)
    middle = held.cumsum(dim=1).sub_(held).to(torch.float32).add_((held - 1).to(torch.float32), alpha=0.5)
    share = middle.view(-1).index_select(0, code.view(-1)).div_(max(width - 1, 1))
    return share.view(tensor.shape).to(tensor.dtype)


def sparsify(tensor: Tensor, density: float, epsilon: float, rescale: str, source: torch.Generator) -> Tensor:
    """A new tensor with entries dropped by rank-dependent chance and the rest rescaled."""
    rows = tensor.reshape(-1, tensor.shape[-1] if tensor.ndim else 1)
    out = torch.empty_like(rows)
    for here in torch.arange(len(rows)).split(max(1, PIECE // max(rows.shape[1], 1))):  # rows that fit a core's cache
        few = rows[here[0] : here[-1] + 1]
        p = rank_share(few).mul_(2 * epsilon).add_(density - epsilon).mul_(LEVELS).round_().div_(LEVELS)
        words = torch.empty((few.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=source)
        drawn = words.view(torch.int16)[: few.numel()].view(few.shape).to(p.dtype).add_(LEVELS // 2).div_(LEVELS)
        kept = torch.lt(drawn, p, out=drawn).mul_(few)
        out[here[0] : here[-1] + 1] = kept.div_(p) if rescale == "inverse" else kept
    after = out.abs().sum()
    if rescale == "l1" and after > 0:
        out *= tensor.abs().sum() / after
    return out.view(tensor.shape)


def merge(vectors: Vectors, *, density: float, epsilon: float, rescale: str, seed: int) -> TaskVector:
    if not (density - epsilon > 0 and density + epsilon <= 1):
        raise ValueError(f"della: density {density} +- epsilon {epsilon} leaves (0, 1]; lower epsilon")
    merged: TaskVector = {}
    for name in vectors[0]:
        kept = [
            {name: sparsify(vector[name], density, epsilon, rescale, generator(seed, "della", task, name))}
            for task, vector in enumerate(vectors)
        ]
        merged |= ties.elect(kept, partial(chunks, kept), mean=True, zero_sign="zero", whole_model=False)
    return merged


OPERATOR = Operator(
    "della",
    merge,
    title="DELLA-Merging",
    paper="arXiv:2406.11617",
    formula="keep by rank with p in density +- epsilon, divide by p; merged = mean of kept values with the elected "
    "sign",
    grid={"density": (0.5, 0.3, 0.7), "epsilon": (0.15, 0.05), "rescale": ("inverse",)},
    coefficients=MEANS,
    random=True,
    per_tensor=True,
    unlawful={
        "agreement": "drops entries at random, so a small tensor may lose all of them",
        "identity": "drops entries at random",
        "order": "each task has its own random mask",
    },
)
