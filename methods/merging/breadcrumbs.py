"""Model Breadcrumbs (Davari & Belilovsky, 2024): drop the largest and the smallest entries, add what is left.

In each row, remove the `top` share of entries with the largest magnitude, then keep the next `density` share:

    merged = sum_t mask_t * tau_t

* `scope`: "row" is the official code (last dimension), "tensor" is mergekit; they differ by 71 % on a small tower.
* int(top * n) entries are removed and round(density * n) kept, at least one, also where that reaches past `top`; so
  tiny tensors survive. (The official code zeroes rows with int(density * n) = 0; mergekit zeroes a tensor with
  int(top * n) = 0.) Entries tied with the last one kept are all kept, those tied with the last one removed all stay.
"""

import torch
from torch import Tensor

from methods.operator import MEANS, Operator
from methods.vectors import TaskVector, Vectors

PIECE = 1 << 16  # entries looked at in one go: in a core's cache


def middle(tensor: Tensor, density: float, top: float, scope: str) -> Tensor:
    """A new tensor with all but the middle magnitudes of each row (or of the whole tensor) set to zero."""
    if not tensor.numel():
        return tensor.clone()
    rows = tensor.reshape(-1, tensor.shape[-1] if scope == "row" and tensor.ndim else tensor.numel())
    width = rows.shape[1]
    removed = min(int(top * width), width - 1)
    last = min(removed + max(1, round(density * width)), width)
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    for some, kept in zip(*(x.split(max(1, PIECE // width)) for x in (rows, out)), strict=True):
        size = some.abs()
        # One selection finds the few largest; both limits are order statistics of those few.
        largest = size.topk(last, dim=1, sorted=False).values
        torch.ge(size, largest.amin(dim=1, keepdim=True), out=kept)
        if removed:
            highest = largest.kthvalue(last - removed, dim=1, keepdim=True).values
            kept.mul_(torch.le(size, highest, out=size))
        kept.mul_(some)
    return out.view(tensor.shape)


def merge(vectors: Vectors, *, density: float, top: float, scope: str) -> TaskVector:
    merged: TaskVector = {}
    for name in vectors[0]:
        out = torch.zeros_like(vectors[0][name])
        for vector in vectors:
            out += middle(vector[name], density, top, scope)
        merged[name] = out
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
