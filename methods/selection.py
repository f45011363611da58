"""Exact order statistics, of whole models without sorting and without a copy of the model, and of many short rows.

A strided sample brackets the wanted value; one pass counts what lies above the bracket and collects what lies inside;
the answer is picked from those few. A bracket that misses is widened, so the result is always exact. Values equal to
the lower end (the zeros of a sparse vector) are counted, if need be, and not collected.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

SAMPLE = 1 << 17
# pieces(stride) yields [rows, c] pieces of every stride-th value; pieces(1) yields all. It is called once a pass, so
# that tensors can be read from a file again, or computed again, instead of being kept.
Pieces = Callable[[int], Iterable[Tensor]]


def kth_largest(pieces: Pieces, k: int, count: int) -> Tensor:
    """The k-th largest value (k = 1 is the largest) of each row, [rows]; `count` is the number of values in a row."""
    if not 1 <= k <= count:
        raise ValueError(f"cannot take the {k}-th largest of {count} entries")
    if count <= SAMPLE:
        return _gathered(pieces, 1).kthvalue(count - k + 1, dim=1).values
    sample = _sample(pieces, count)
    found, width = torch.full_like(sample[:, 0], torch.nan), 1.0
    while found.isnan().any():
        low, high = _bracket(sample, k / count, width)
        rows = found.isnan().nonzero()[:, 0]
        inside = _Inside(sample, low, high, rows, count)
        for piece in pieces(1):
            inside.take(piece)
        for row, near, skip in inside.values():
            if skip < k <= skip + len(near):
                found[row] = near.kthvalue(len(near) - (k - skip) + 1).values
            elif skip + len(near) < k <= skip + len(near) + _equal(pieces, row, low):
                found[row] = low[row]
        width *= 8
    return found


def ranked(rows: Tensor, *places: int) -> list[Tensor]:
    """The values at ascending `places` (0 is the smallest) of each row of [rows, n], each [rows, 1].

    `rows` are written over. On a CPU NumPy selects, in vector instructions and without carrying indices along, which
    takes a half to a sixth of the time of `topk` or `kthvalue`. Whoever finds an order statistic finds the same value.
    """
    if rows.device.type != "cpu":
        return [rows.kthvalue(place + 1, dim=1, keepdim=True).values for place in places]
    start = 0
    for place in places:
        if place >= start:  # else the last selection has put it there
            rows[:, start:].numpy().partition(place - start, axis=1)
            start = place + 1
    return [rows[:, place, None].clone() for place in places]


def _gathered(pieces: Pieces, stride: int) -> Tensor:
    """Every stride-th value of each row in one tensor, [rows, values]; pieces may share their memory."""
    return torch.cat([piece.clone() for piece in pieces(stride)], dim=1)


def _equal(pieces: Pieces, row: int, low: Tensor) -> int:
    """How many values of a row equal the lower end of its bracket."""
    return sum(int((piece[row] == low[row]).sum()) for piece in pieces(1))


class _Inside:
    """The values in (low, high] of some rows, and how many lie above.

    Each row has one buffer: many small tensors kept alive would fragment the memory of a whole model.
    """

    def __init__(self, sample: Tensor, low: Tensor, high: Tensor, rows: Tensor, count: int) -> None:
        self._low, self._high, self._rows = low[rows, None], high[rows, None], rows
        self._all = len(rows) == len(sample)
        some = sample[rows]
        shares = ((some > self._low) & (some <= self._high)).float().mean(dim=1).tolist()
        self._buffers = [sample.new_empty(int(1.5 * share * count) + 1024) for share in shares]
        self._held = [0] * len(rows)
        self._above = torch.zeros(len(rows), dtype=torch.float64)

    def take(self, piece: Tensor) -> None:
        """Look at [all rows, c] values."""
        piece = piece if self._all else piece[self._rows]
        # Comparing into floats and adding those is four times faster than adding booleans, and exact here.
        above = torch.gt(piece, self._high, out=torch.empty_like(piece))
        inside = torch.gt(piece, self._low, out=torch.empty_like(piece)).sub_(above)
        self._above += above.sum(dim=1)
        counts = inside.sum(dim=1).long().tolist()
        for i, new in enumerate(_where(piece, inside).split(counts)):
            start, stop = self._held[i], self._held[i] + len(new)
            if stop > len(self._buffers[i]):
                held = self._buffers[i]
                self._buffers[i] = torch.cat([held[:start], torch.empty_like(held), torch.empty_like(new)])
            self._buffers[i][start:stop] = new
            self._held[i] = stop

    def values(self) -> Iterator[tuple[int, Tensor, int]]:
        """Of each row: its number, its values inside, and how many lie above."""
        for i, row in enumerate(self._rows.tolist()):
            yield row, self._buffers[i][: self._held[i]], int(self._above[i])


def _where(values: Tensor, flags: Tensor) -> Tensor:
    """values[flags == 1] of [rows, c], row by row. Few flags are set, so eight at a time are looked at first."""
    if values.shape[1] % 8:
        return values.masked_select(flags > 0)
    values, flags = values.unflatten(1, (8, -1)), flags.unflatten(1, (8, -1))
    row, at = flags.sum(dim=1).nonzero(as_tuple=True)
    return values[row, :, at].masked_select(flags[row, :, at] > 0)


def _sample(pieces: Pieces, count: int) -> Tensor:
    """Every stride-th value of each row."""
    stride = count // min(SAMPLE, max(SAMPLE >> 3, count >> 6))
    while stride % 2 == 0 or stride % 3 == 0:  # widths are multiples of 2 and 3: visit all columns alike
        stride += 1
    return _gathered(pieces, stride)


def _bracket(sample: Tensor, share: float, width: float) -> tuple[Tensor, Tensor]:
    rows, size = sample.shape
    centre = share * size
    # Four standard deviations of a binomial sample and a few entries, times `width`.
    margin = width * (4 * (centre * max(1 - share, 0)) ** 0.5 + 4)
    low_at, high_at = round(centre + margin), round(centre - margin)
    low = sample.kthvalue(size - low_at, dim=1).values if low_at < size else sample.new_full((rows,), -torch.inf)
    high = sample.kthvalue(size - high_at, dim=1).values if high_at >= 0 else sample.new_full((rows,), torch.inf)
    return low, high
