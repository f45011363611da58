"""DELLA (Deep et al., 2024): keep large entries with higher probability, then elect signs and average.

Within each row (last dimension; biases are one row) of n entries, an entry of magnitude rank r (0 is the smallest) is
kept with probability p and divided by it, and the survivors are merged as in TIES:

    p = density - epsilon + 2 epsilon r / (n - 1)        merged = mean{ m tau_t / p : sign = elected }

* Ranks come from a histogram of the magnitudes' leading bits (64 bins an octave), not from two sorts: magnitudes within
  1.6 % of each other share their middle rank, which moves p by less than 0.01 and keeps the rescaling exactly unbiased.
* `rescale`: "inverse" is 1/p (paper); "l1" restores the tensor's L1 norm (mergekit); "none".
* Rows with one entry have p = density (mergekit divides by zero there). Convolution kernels use their last dimension.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from methods.merging import ties
from methods.merging.dare import LEVELS, restore_l1
from methods.operator import MEANS, Operator
from methods.vectors import TaskVector, Vectors, chunks, generator

BINS, SHIFT = 512, 17  # float32 has 23 mantissa bits; dropping 17 leaves 64 bins an octave, 512 bins are 8 octaves
NARROW, PIECE = 128, 1 << 15
VECTOR = 32  # entries that torch adds up side by side


def chances(rows: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """`of` (rank share) for every entry of rows [r, n]; `of` works in place and entry by entry."""
    width = rows.shape[1]
    if width < NARROW:  # more bins than entries: compare every pair
        return of(_exact(rows.to(torch.float32).abs()).to(rows.dtype))
    code = rows.to(torch.float32).abs().view(torch.int32)
    code >>= SHIFT  # leading bits of a positive float order like the float
    first = torch.arange(0, len(code) * BINS, BINS, dtype=torch.int32)[:, None]  # of each row's bins
    code += first - (code.amax(dim=1, keepdim=True) - BINS + 1)
    torch.maximum(code, first, out=code)
    held = torch.bincount(code.view(-1), minlength=len(code) * BINS).view(len(code), BINS)
    middle = held.cumsum(dim=1).to(torch.float32).sub_(held, alpha=0.5).sub_(0.5)
    share = of(middle.div_(max(width - 1, 1)).to(rows.dtype))  # bins are fewer than entries
    return share.view(-1).index_select(0, code.view(-1)).view(rows.shape)


def _exact(size: Tensor) -> Tensor:
    """Rank shares of rows [r, n] of few magnitudes, float32."""
    width = size.shape[1]
    if width < 2:
        return torch.full_like(size, 0.5)
    columns = size.T.contiguous()  # [n, r]: long lines for the vector units
    lead, flags = torch.zeros_like(columns), torch.empty_like(columns)
    for other in columns:  # + 1 for every entry that is smaller, - 1 for every one that is larger
        lead += torch.sub(columns, other, out=flags).sign_()
    return lead.add_(width - 1).div_(2 * (width - 1)).T.contiguous()


class Dropper:
    """Drops entries of a few rows at a time; holds the memory that it needs for `height` rows of `width`."""

    def __init__(self, width: int, density: float, epsilon: float, rescale: str) -> None:
        self.height = max(1, PIECE // max(width, 1))  # rows that fit a core's cache
        self._words = torch.empty((self.height * width + 3) // 4, dtype=torch.int64)
        self._density, self._epsilon, self._rescale = density, epsilon, rescale

    def drop(self, rows: Tensor, source: torch.Generator, out: Tensor) -> None:
        """Write rows [r <= height, width] to `out` with entries dropped by rank-dependent chance, the rest rescaled."""
        p = chances(rows, self._chance)
        count = rows.numel()
        self._words[: (count + 3) // 4].random_(-(2**63), None, generator=source)
        out.copy_(self._words.view(torch.int16)[:count].view(rows.shape)).add_(LEVELS // 2).div_(LEVELS)
        torch.lt(out, p, out=out).mul_(rows)
        if self._rescale == "inverse":
            out.div_(p)

    def _chance(self, share: Tensor) -> Tensor:
        spread = share.mul_(2 * self._epsilon).add_(self._density - self._epsilon)
        return spread.mul_(LEVELS).round_().div_(LEVELS)


def as_rows(tensor: Tensor) -> Tensor:
    """[rows, width] along the last dimension; fewer than two dimensions are one row."""
    return tensor.reshape(-1, tensor.shape[-1] if tensor.ndim else 1)


def sparsify(tensor: Tensor, density: float, epsilon: float, rescale: str, source: torch.Generator) -> Tensor:
    """A new tensor with entries dropped by rank-dependent chance and the rest rescaled."""
    if not tensor.numel():
        return tensor.clone()
    rows = as_rows(tensor)
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    dropper = Dropper(rows.shape[1], density, epsilon, rescale)
    for few, kept in zip(rows.split(dropper.height), out.split(dropper.height), strict=True):
        dropper.drop(few, source, kept)
    if rescale == "l1":
        restore_l1(out, tensor)
    return out.view(tensor.shape)


def dropped(vectors: Vectors, density: float, epsilon: float, rescale: str, seed: int) -> ties.Trimmed:
    """The sparsified task vectors piece by piece."""

    def pieces(name: str) -> Iterator[Tensor]:
        if not vectors[0][name].numel():
            return
        sources = [generator(seed, "della", task, name) for task in range(len(vectors))]
        tensors = [as_rows(vector[name]) for vector in vectors]
        dropper = Dropper(tensors[0].shape[1], density, epsilon, rescale)
        few = [x.split(dropper.height) for x in tensors]
        # Sums over tasks have the same bits in pieces only where these end on a full vector of the processor.
        if rescale == "l1" or (len(few[0]) > 1 and few[0][0].numel() % VECTOR):
            pairs = zip(vectors, sources, strict=True)
            whole = [{name: sparsify(vector[name], density, epsilon, rescale, source)} for vector, source in pairs]
            yield from chunks(whole, name)
            return
        held = torch.empty(len(vectors), *few[0][0].shape, dtype=tensors[0].dtype)
        for rows in zip(*few, strict=True):
            kept = held[:, : len(rows[0])]
            for one, out, source in zip(rows, kept, sources, strict=True):
                dropper.drop(one, source, out)
            yield kept.flatten(1)

    return pieces


def merge(vectors: Vectors, *, density: float, epsilon: float, rescale: str, seed: int) -> TaskVector:
    if not (density - epsilon > 0 and density + epsilon <= 1):
        raise ValueError(f"della: density {density} +- epsilon {epsilon} leaves (0, 1]; lower epsilon")
    kept = dropped(vectors, density, epsilon, rescale, seed)
    return ties.elect(vectors, kept, mean=True, zero_sign="zero", whole_model=False)


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
