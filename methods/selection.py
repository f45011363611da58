"""Exact order statistics of whole models without sorting and without a copy of the model.

A strided sample brackets the wanted value; one pass counts what lies above the bracket and collects what lies inside;
the answer is picked from those few. A bracket that misses is replaced by the side where the value must be, so the
result is always exact, for values that repeat as well.
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
    low, high = _bracket(pieces, k, count)
    found = torch.full_like(low, torch.nan)
    while found.isnan().any():
        open_rows = found.isnan().nonzero()[:, 0].tolist()
        above = torch.zeros_like(low, dtype=torch.long)
        inside: dict[int, list[Tensor]] = {row: [] for row in open_rows}
        for piece in pieces(1):
            # Comparing into floats and adding those is four times faster than adding booleans, and exact here.
            above += torch.gt(piece, high[:, None], out=torch.empty_like(piece)).sum(dim=1).long()
            for row in open_rows:
                values = piece[row]
                inside[row].append(values[(values >= low[row]) & (values <= high[row])])
        for row in open_rows:
            near, skip = torch.cat(inside[row]), int(above[row])
            if k <= skip:  # the value is above the bracket
                low[row], high[row] = high[row].clone(), torch.inf
            elif k > skip + len(near):  # below it
                low[row], high[row] = -torch.inf, low[row].clone()
            else:
                found[row] = near.kthvalue(len(near) - (k - skip) + 1).values
    return found


def _bracket(pieces: Pieces, k: int, count: int) -> tuple[Tensor, Tensor]:
    stride = count // SAMPLE
    while stride % 2 == 0 or stride % 3 == 0:  # widths are multiples of 2 and 3: visit all columns alike
        stride += 1
    sample = torch.cat(list(pieces(stride)), dim=1).sort(dim=1, descending=True).values
    rows, size = sample.shape
    centre = k * size / count
    margin = 6 * (centre * max(1 - centre / size, 0)) ** 0.5 + 4  # six standard deviations of a binomial sample
    low_at, high_at = round(centre + margin), round(centre - margin)
    low = sample[:, low_at] if low_at < size else sample.new_full((rows,), -torch.inf)
    high = sample[:, high_at] if high_at >= 0 else sample.new_full((rows,), torch.inf)
    return low.clone(), high.clone()
