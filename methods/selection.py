"""Exact order statistics of whole models without sorting and without a copy of the model.

A strided sample brackets the wanted value; one pass counts what lies above the bracket and collects what lies inside;
the answer is picked from those few. A bracket that misses is widened, so the result is always exact. Values equal to
the lower end (the zeros of a sparse vector) are counted and not collected.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

SAMPLE = 1 << 15
# pieces(stride) yields [rows, c] pieces of every stride-th value; pieces(1) yields all. It is called once a pass, so
# that tensors can be read from a file again, or computed again, instead of being kept.
Pieces = Callable[[int], Iterable[Tensor]]


def kth_largest(pieces: Pieces, k: int, count: int) -> Tensor:
    """The k-th largest value (k = 1 is the largest) of each row, [rows]; `count` is the number of values in a row."""
    if not 1 <= k <= count:
        raise ValueError(f"cannot take the {k}-th largest of {count} entries")
    if count <= 4 * SAMPLE:
        return torch.cat(list(pieces(1)), dim=1).kthvalue(count - k + 1, dim=1).values
    sample = _sample(pieces, count)
    found, width = torch.full_like(sample[:, 0], torch.nan), 1.0
    while found.isnan().any():
        low, high = _bracket(sample, k / count, width)
        rows = found.isnan().nonzero()[:, 0].tolist()
        above, at_least = torch.zeros_like(low, dtype=torch.long), torch.zeros_like(low, dtype=torch.long)
        inside = {row: _Inside(sample, float(low[row]), float(high[row]), count) for row in rows}
        for piece in pieces(1):
            # Comparing into floats and adding those is four times faster than adding booleans, and exact here.
            truth = torch.empty_like(piece)
            above += torch.gt(piece, high[:, None], out=truth).sum(dim=1).long()
            at_least += torch.ge(piece, low[:, None], out=truth).sum(dim=1).long()
            for row in rows:
                inside[row].take(piece[row])
        for row in rows:
            near, skip = inside[row].values(), int(above[row])
            if skip < k <= skip + len(near):
                found[row] = near.kthvalue(len(near) - (k - skip) + 1).values
            elif skip + len(near) < k <= int(at_least[row]):
                found[row] = low[row]
        width *= 8
    return found


class _Inside:
    """The values in (low, high], in one buffer: many small tensors kept alive would fragment the memory of a whole
    model."""

    def __init__(self, sample: Tensor, low: float, high: float, count: int) -> None:
        share = float(((sample > low) & (sample <= high)).sum()) / max(sample.numel(), 1)
        self._low, self._high, self._held = low, high, 0
        self._buffer = sample.new_empty(int(1.5 * share * count) + 1024)

    def take(self, values: Tensor) -> None:
        """Keep those of `values` that lie inside."""
        new = values[(values > self._low) & (values <= self._high)]
        if self._held + len(new) > len(self._buffer):
            self._buffer = torch.cat([self.values(), torch.empty_like(self._buffer), torch.empty_like(new)])
        self._buffer[self._held : self._held + len(new)] = new
        self._held += len(new)

    def values(self) -> Tensor:
        """What was kept so far."""
        return self._buffer[: self._held]


def _sample(pieces: Pieces, count: int) -> Tensor:
    """Every stride-th value of each row, in descending order."""
    stride = count // SAMPLE
    while stride % 2 == 0 or stride % 3 == 0:  # widths are multiples of 2 and 3: visit all columns alike
        stride += 1
    return torch.cat(list(pieces(stride)), dim=1).sort(dim=1, descending=True).values


def _bracket(sample: Tensor, share: float, width: float) -> tuple[Tensor, Tensor]:
    rows, size = sample.shape
    centre = share * size
    # Six standard deviations of a binomial sample and a few entries, times `width`.
    margin = width * (6 * (centre * max(1 - share, 0)) ** 0.5 + 4)
    low_at, high_at = round(centre + margin), round(centre - margin)
    low = sample[:, low_at] if low_at < size else sample.new_full((rows,), -torch.inf)
    high = sample[:, high_at] if high_at >= 0 else sample.new_full((rows,), torch.inf)
    return low, high
