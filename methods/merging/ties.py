"""TIES-Merging (Yadav et al., 2023): trim, elect signs, merge what agrees.

Keep the largest `density` share of each task vector by magnitude, elect one sign per coordinate, and combine the kept
values that have it:

    s = sign(sum_t kept_t)        merged = mean{ kept_t : sign(kept_t) = s }      (`ties_sum`: the sum)

Where implementations differ, this one says which:

* `scope`: "global" ranks the whole task vector (paper, official code, FusionBench), "tensor" every tensor for itself
  (mergekit), "row" every row (last dimension). round(density * n) entries are kept, at least one; entries tied with the
  last one kept are all kept. The official code keeps int(density * n) + 1.
* `zero_sign`, where kept values cancel exactly: "majority" takes the sign that most coordinates of the model have
  (official code), "plus" takes +1 (mergekit), "zero" leaves the coordinate at zero.
* The mean (paper; natural scale 1) and the sum (vision ports; natural scale 0.3) are two operators.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from methods.operator import MEANS, SUMS, Operator
from methods.selection import kth_largest, ranked
from methods.vectors import TaskVector, Vectors, chunks, count

PIECE = 1 << 16  # entries of a task looked at in one go: in a core's cache, and enough to make calls cheap
Trimmed = Callable[[str], Iterable[Tensor]]  # tensor name -> trimmed flat pieces [tasks, c]


def kept_count(density: float, count: int) -> int:
    """How many of `count` entries a density keeps: rounded, never none."""
    return max(1, round(density * count))


def trim(vectors: Vectors, density: float, scope: str) -> Trimmed:
    """The task vectors with all but the largest `density` share of entries set to zero, piece by piece."""
    entries = count(vectors)
    whole = None
    if scope == "global" and entries:
        whole = _limit(vectors, list(vectors[0]), density, entries)

    def pieces(name: str) -> Iterator[Tensor]:
        start = 0
        limit = whole if whole is not None else _limits(vectors, name, density, scope)
        for piece in chunks(vectors, name, reuse=True):
            stop = start + piece.shape[1]
            if limit.shape[1] == 1:
                for row, smallest in zip(piece, limit, strict=True):
                    keep_from(row, smallest)
            else:
                piece.mul_(piece.abs() >= limit[:, start:stop])
            yield piece
            start = stop

    return pieces


def keep_from(values: Tensor, smallest: Tensor) -> None:
    """Set entries with magnitude below `smallest` (one number) to zero, in place."""
    below = torch.nextafter(smallest, torch.zeros_like(smallest))
    # hardshrink keeps |x| > lambda and is ten times faster than comparing and multiplying.
    torch.hardshrink(values, float(below), out=values)


def _limits(vectors: Vectors, name: str, density: float, scope: str) -> Tensor:
    """Smallest kept magnitude, [tasks, 1] for a tensor or [tasks, entries] for rows."""
    like = vectors[0][name]
    if scope == "tensor" or like.ndim < 2 or not like.numel():
        return _limit(vectors, [name], density, like.numel())
    rows = torch.stack([vector[name] for vector in vectors]).abs_().reshape(len(vectors), -1, like.shape[-1])
    width = rows.shape[-1]
    limit = ranked(rows.view(-1, width), width - kept_count(density, width))[0]
    return limit.view(len(vectors), -1, 1).expand(rows.shape).reshape(len(vectors), -1)


def _limit(vectors: Vectors, names: Sequence[str], density: float, entries: int) -> Tensor:
    """Smallest magnitude kept of `names` ranked together, [tasks, 1]."""

    def magnitudes(stride: int) -> Iterator[Tensor]:
        return (x.abs_() for name in names for x in chunks(vectors, name, PIECE, stride, reuse=True))

    kept = kept_count(density, entries)
    if kept >= entries:  # nothing is trimmed; nor is there anything to select from in an empty tensor
        return torch.zeros(len(vectors), 1)
    return kth_largest(magnitudes, kept, entries)[:, None]


def elect(vectors: Vectors, trimmed: Trimmed, *, mean: bool, zero_sign: str, whole_model: bool) -> TaskVector:
    """Elect one sign per coordinate of the trimmed vectors and combine the values that have it."""
    merged: TaskVector = {}
    votes: int = 0
    cancelled: list[tuple[Tensor, Tensor, Tensor]] = []
    for name in vectors[0]:
        flat, start = torch.empty_like(vectors[0][name]).reshape(-1), 0
        if not whole_model:
            votes, cancelled = 0, []
        for kept in trimmed(name):
            sign = kept.sum(dim=0).sign_()
            here = slice(start, start + kept.shape[1])
            if zero_sign != "zero":
                votes += int(sign.sum())
                undecided = torch.eq(sign, 0, out=torch.empty_like(sign)).mul_(kept.amax(dim=0))
                if undecided.max() > 0:
                    tied = undecided.nonzero()[:, 0]
                    cancelled.append((flat[here], tied, kept[:, tied]))
            flat[here] = _combine(kept, sign, mean)
            start = here.stop
        merged[name] = flat.view(vectors[0][name].shape)
        if not whole_model:
            _settle(cancelled, votes, zero_sign, mean)
    if whole_model:
        _settle(cancelled, votes, zero_sign, mean)
    return merged


def _combine(kept: Tensor, sign: Tensor, mean: bool) -> Tensor:
    """The merged values; `kept` is written over."""
    agreeing = kept.mul_(sign).clamp_(min=0)  # magnitudes of the values with the elected sign
    size = agreeing.sum(dim=0)
    if mean:
        size /= agreeing.sign_().sum(dim=0).clamp_(min=1)
    return size.mul_(sign)


def _settle(cancelled: list[tuple[Tensor, Tensor, Tensor]], votes: int, zero_sign: str, mean: bool) -> None:
    """Give coordinates whose kept values cancel the agreed sign, in place."""
    sign = 1 if zero_sign == "plus" else (votes > 0) - (votes < 0)
    for flat, where, kept in cancelled:
        flat[where] = _combine(kept, kept.new_full(kept.shape[1:], sign), mean)


def merge(vectors: Vectors, *, density: float, scope: str, zero_sign: str, mean: bool = True) -> TaskVector:
    whole = scope == "global"
    return elect(vectors, trim(vectors, density, scope), mean=mean, zero_sign=zero_sign, whole_model=whole)


OPERATOR = Operator(
    "ties",
    merge,
    title="TIES-Merging (disjoint mean)",
    paper="arXiv:2306.01708",
    formula="kept_t = top density of |tau_t|; s = sign(sum_t kept_t); merged = mean of kept_t with sign s",
    grid={"density": (0.2, 0.1, 0.3, 0.5), "scope": ("global",), "zero_sign": ("majority",)},
    coefficients=MEANS,
    cost="global",
    unlawful={"identity": "trims a single task too"},
)
SUM = OPERATOR.with_(
    name="ties_sum",
    function=partial(merge, mean=False),
    title="TIES-Merging (disjoint sum)",
    formula="kept_t = top density of |tau_t|; s = sign(sum_t kept_t); merged = sum of kept_t with sign s",
    coefficients=SUMS,
)
