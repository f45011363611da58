"""Exact order statistics of magnitudes without sorting and without a copy of the model.

A strided sample brackets the wanted value; one pass counts what lies above the bracket and collects what lies inside;
the answer is picked from those few. Where the bracket misses (a value can repeat), the whole is searched instead, so
the result is always exact.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

SAMPLE = 1 << 16
PIECE = 1 << 16


def kth_largest(parts: Callable[[], Iterable[Tensor]], k: int) -> Tensor:
    """The k-th largest magnitude (k = 1 is the largest) among all entries of `parts()`, a 0-d tensor.

    `parts` is called once for every pass, so that tensors can be read from a file again instead of being kept.
    """
    sizes = [part.numel() for part in parts()]
    count = sum(sizes)
    if not 1 <= k <= count:
        raise ValueError(f"cannot take the {k}-th largest of {count} entries")
    if count > 4 * SAMPLE:
        found = _bracketed(parts, k, count)
        if found is not None:
            return found
    everything = torch.cat([part.reshape(-1).abs() for part in parts()])
    return everything.kthvalue(count - k + 1).values


def _bracketed(parts: Callable[[], Iterable[Tensor]], k: int, count: int) -> Tensor | None:
    stride = count // SAMPLE
    sample = torch.cat([part.reshape(-1)[stride // 2 :: stride] for part in parts()]).abs().sort(descending=True).values
    centre = k * len(sample) / count
    # Six standard deviations of a binomial sample, at least a few entries: about one pass in 10^9 misses by chance.
    margin = 6 * (centre * max(1 - centre / len(sample), 0)) ** 0.5 + 4
    low_at, high_at = round(centre + margin), round(centre - margin)
    low = sample[low_at] if low_at < len(sample) else sample.new_tensor(-1.0)
    high = sample[high_at] if high_at >= 0 else sample.new_tensor(torch.inf)
    above, inside = 0, []
    for part in parts():
        for piece in part.reshape(-1).split(PIECE):
            size = piece.abs()
            above += int(torch.count_nonzero(size > high))
            inside.append(size[(size >= low) & (size <= high)])
    near = torch.cat(inside)
    if above < k <= above + len(near):
        return near.kthvalue(len(near) - (k - above) + 1).values
    return None
