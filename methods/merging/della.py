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
from methods.operator import MEANS, Operator
from methods.vectors import TaskVector, Vectors, chunks, generator

BINS, SHIFT = 512, 17  # float32 has 23 mantissa bits; dropping 17 leaves 64 bins an octave, 512 bins are 8 octaves


def rank_share(tensor: Tensor) -> Tensor:
    """The magnitude rank of each entry within its row as a share in [0, 1], ties sharing the middle; same shape."""
    width = tensor.shape[-1] if tensor.ndim else 1
    size = tensor.detach().to(torch.float32).abs().reshape(-1, max(width, 1))
    code = size.view(torch.int32) >> SHIFT  # leading bits of a positive float order like the float
    code = (code - code.amax(dim=1, keepdim=True) + BINS - 1).clamp_(min=0)
    code += torch.arange(len(code), dtype=torch.int32)[:, None] * BINS
    held = torch.bincount(code.view(-1), minlength=len(code) * BINS).view(len(code), BINS)
    middle = held.cumsum(dim=1).sub_(held).to(torch.float32).add_((held - 1).to(torch.float32), alpha=0.5)
    share = middle.view(-1)[code.view(-1)].div_(max(width - 1, 1))
    return (share if width > 1 else share.fill_(0.5)).view(tensor.shape).to(tensor.dtype)


def sparsify(tensor: Tensor, density: float, epsilon: float, rescale: str, source: torch.Generator) -> Tensor:
    """A new tensor with entries dropped by rank-dependent chance and the rest rescaled."""
    if not tensor.numel():
        return tensor.clone()
    p = rank_share(tensor).mul_(2 * epsilon).add_(density - epsilon)
    out = tensor * (torch.rand(tensor.shape, generator=source, dtype=tensor.dtype) < p)
    if rescale == "inverse":
        return out.div_(p)
    after = out.abs().sum()
    return out.mul_(tensor.abs().sum() / after) if rescale == "l1" and after > 0 else out


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
    citation="@article{deep2024della, title={{DELLA}-Merging: reducing interference in model merging through "
    "magnitude-based sampling}, author={Deep, Pala Tej and Bhardwaj, Rishabh and Poria, Soujanya}, "
    "journal={arXiv preprint arXiv:2406.11617}, year={2024}}",
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
