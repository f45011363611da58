"""Model Breadcrumbs (Davari & Belilovsky, 2024): drop the largest and the smallest entries, add what is left.

In each row, remove the `top` share of entries with the largest magnitude, then keep the next `density` share:

    merged = sum_t mask_t * tau_t

* `scope`: "row" is the official code (last dimension), "tensor" is mergekit; they differ by 71 % on a small tower.
* int(top * n) entries are removed and round(density * n) kept, at least one, also where that reaches past `top`; so
  tiny tensors survive. (The official code zeroes rows with int(density * n) = 0; mergekit zeroes a tensor with
  int(top * n) = 0.) Entries tied with the last one kept are all kept, those tied with the last one removed all stay.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from methods.merging.ties import keep_from
from methods.operator import MEANS, Operator
from methods.selection import kth_largest, ranked
from methods.vectors import TaskVector, Vectors, chunks

PIECE = 1 << 16  # entries looked at in one go: in a core's cache


def add_by_row(out: Tensor, tensors: list[Tensor], largest: int, last: int) -> None:
    """Add to `out` [rows, n] each tensor without the `largest` entries of a row and what is below the `last` one."""
    width = out.shape[1]
    size = torch.empty_like(out[: max(1, PIECE // width)])
    kept = torch.empty_like(size)
    for total, *pieces in zip(*(x.split(len(size)) for x in (out, *tensors)), strict=True):
        held, keep = size[: len(total)], kept[: len(total)]
        for piece in pieces:
            low, high = ranked(torch.abs(piece, out=held), width - last, width - largest - 1)
            torch.ge(torch.abs(piece, out=held), low, out=keep)  # comparing into floats is faster than making booleans
            if largest:
                keep.mul_(torch.le(held, high, out=held))
            total += keep.mul_(piece)


def add_ranked_whole(out: Tensor, vectors: Vectors, name: str, largest: int, last: int) -> None:
    """The same for flat `out` where the tensor `name` is ranked as one row, too long to be held beside itself."""

    def magnitudes(stride: int) -> Iterator[Tensor]:
        return (x.abs_() for x in chunks(vectors, name, PIECE, stride, reuse=True))

    low = kth_largest(magnitudes, last, len(out))
    high = kth_largest(magnitudes, largest + 1, len(out)).tolist() if largest else []
    for total, piece in zip(out.split(PIECE), chunks(vectors, name, PIECE, reuse=True), strict=True):
        for task, row in enumerate(piece):
            keep_from(row, low[task])
            if high:
                row -= hardshrink(row, high[task])  # exactly zero above the limit, unchanged up to it
            total += row


def merge(vectors: Vectors, *, density: float, top: float, scope: str) -> TaskVector:
    merged: TaskVector = {}
    for name, like in vectors[0].items():
        merged[name] = out = torch.zeros_like(like, memory_format=torch.contiguous_format)
        if not out.numel():
            continue
        width = like.shape[-1] if scope == "row" and like.ndim else like.numel()
        largest = min(int(top * width), width - 1)
        last = min(largest + max(1, round(density * width)), width)
        if width == out.numel() > PIECE:
            add_ranked_whole(out.view(-1), vectors, name, largest, last)
        else:
            rows = [vector[name].reshape(-1, width) for vector in vectors]
            add_by_row(out.view(-1, width), rows, largest, last)
    return merged


OPERATOR = Operator(
    "breadcrumbs",
    merge,
    title="Model Breadcrumbs",
    paper="arXiv:2312.06795",
    formula="keep, in each row, the density share of magnitudes below the top share; merged = sum of what is kept",
    grid={"density": (0.1, 0.2, 0.9), "top": (0.01, 0.1), "scope": ("row", "tensor")},
    coefficients=MEANS,
    per_tensor=True,
    unlawful={"identity": "drops the largest and the smallest entries"},
)
