"""Geometry of task vectors: norms, angles, spectra and overlaps between tasks. No model is run and no image is seen.

For task vectors tau_1 .. tau_T, and for each matrix D = dW [rows, columns] among their parameters ("layer" below):

    cosine          <tau_i, tau_j> / (||tau_i|| ||tau_j||), over all parameters; by layer the mean |cosine| over pairs
    defect          || D^T D - I ||_F, what OrthoReg pulls down; a wide D cannot go below sqrt(columns - rows)
    stable rank     ||D||_F^2 / s_1^2, between 1 and the rank
    overlap         ||U_i^T U_j||_F^2 / k in [0, 1], U the k leading singular vectors of one side; unrelated subspaces
                    of an n-dimensional space have k / n (stored as `chance`)
    angles          between the columns of one matrix, in degrees: OrthoReg's Gram matrix D^T D is made of their cosines

A zero vector has no direction: its cosines are 0 and its columns are left out of the angles. Numbers are rounded to
five significant digits, far above what two machines disagree about and far below what matters.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from methods import linalg
from methods.vectors import Vectors, check

EDGES = (0.0, *(float(d) for d in range(50, 131, 2)), 180.0)
"""Borders of the angle bins in degrees: two-degree bins around 90 and two tails."""

DIGITS = 5


RANK = 4
"""k of the subspace overlap, less where a layer has fewer singular values."""


def geometry(vectors: Vectors, tasks: Sequence[str], pretrained: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Everything above as plain numbers that JSON can hold.

    vectors: one task vector per task, the same names and shapes in all; `tasks` names them.
    pretrained: by parameter name; where given, the angles of the pretrained layers stand beside those of the updates.

    Layer values are means over tasks (cosine and overlap: over pairs of tasks, None where there is only one task).
    """
    check(vectors, "geometry")
    products = {name: inner_products([vector[name] for vector in vectors]) for name in sorted(vectors[0], key=place)}
    total = sum(products.values(), torch.zeros(len(vectors), len(vectors), dtype=torch.float64))
    layers = [name for name in products if is_layer(name, vectors[0][name])]
    columns: dict[str, list[Any]] = {"names": layers, "shapes": [list(vectors[0][n].shape) for n in layers]}
    counts = torch.zeros(len(EDGES) - 1, dtype=torch.int64)
    for name in layers:
        values = _layer([vector[name].double() for vector in vectors], products[name])
        counts += values.pop("counts")
        for column, value in values.items():
            columns.setdefault(column, []).append(rounded(value))
    result = {
        "tasks": list(tasks),
        "norms": rounded(total.diagonal().clamp(min=0).sqrt().tolist()),
        "cosine": rounded(cosines(total).tolist()),
        "rank": RANK,
        "layers": columns,
        "angles": {"edges": list(EDGES), "update": shares(counts)},
    }
    if pretrained is not None:
        own = [angles(pretrained[name]) for name in layers]
        columns["pretrained_tilt"] = [rounded(tilt(a)) for a in own]
        result["angles"]["pretrained"] = shares(sum(map(histogram, own), torch.zeros_like(counts)))
    return result


def _layer(updates: Sequence[Tensor], products: Tensor) -> dict[str, Any]:
    """One layer of several tasks; `updates` are float64 [rows, columns]."""
    turned = [angles(update) for update in updates]
    cache = linalg.SvdCache()
    spectra = [linalg.singular_values(update, cache) for update in updates]
    left, right = overlaps(updates, RANK, cache)
    rows, columns = updates[0].shape
    k = min(RANK, rows, columns)
    return {
        "norm": fmean(products.diagonal().clamp(min=0).sqrt().tolist()),
        "cosine": mean_absolute(cosines(products)),
        "defect": fmean(defect(update) for update in updates),
        "stable_rank": fmean(stable_rank(s) for s in spectra),
        "spectrum": [fmean(float(s[i]) for s in spectra) for i in powers_of_two(min(rows, columns))],
        "overlap_left": left,
        "overlap_right": right,
        "chance": [k / rows, k / columns],
        "tilt": fmean(tilt(a) for a in turned),
        "counts": sum(map(histogram, turned), torch.zeros(len(EDGES) - 1, dtype=torch.int64)),
    }


def is_layer(name: str, tensor: Tensor) -> bool:
    """Whether a parameter is the matrix of a linear map: two-dimensional and no table of embeddings."""
    return tensor.ndim == 2 and "embedding" not in name


def place(name: str) -> list[tuple[int, str]]:
    """Sorts names with the numbers in them as numbers: block 2 before block 10, whatever order a file has."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def inner_products(tensors: Sequence[Tensor]) -> Tensor:
    """<a_i, a_j> of tensors of one shape, float64 [tasks, tasks]."""
    flat = torch.stack([t.detach().double().flatten() for t in tensors])
    return flat @ flat.T


def cosines(products: Tensor) -> Tensor:
    """Cosines [tasks, tasks] from inner products; those of a zero vector are 0, its own one included."""
    norms = products.diagonal().clamp(min=0).sqrt()
    scale = torch.outer(norms, norms)
    return torch.where(scale > 0, products / scale.clamp(min=torch.finfo(scale.dtype).tiny), 0.0).clamp(-1, 1)


def mean_absolute(matrix: Tensor) -> float | None:
    """Mean of |entry| over pairs i < j; None where there is no pair."""
    pairs = matrix[torch.ones_like(matrix, dtype=torch.bool).triu(1)]
    return float(pairs.abs().mean()) if len(pairs) else None


def defect(update: Tensor) -> float:
    """|| D^T D - I ||_F for D [rows, columns], by the Gram matrix of the smaller side."""
    rows, columns = update.shape
    gram = update @ update.T if rows < columns else update.T @ update
    off = float((gram - torch.eye(len(gram), dtype=gram.dtype)).square().sum())
    return (off + max(0, columns - rows)) ** 0.5


def stable_rank(singular: Tensor) -> float:
    """||D||_F^2 / s_1^2 from singular values in descending order; 0 for the zero matrix."""
    top = float(singular[0])
    return float((singular / top).square().sum()) if top > 0 else 0.0


def overlaps(
    updates: Sequence[Tensor], rank: int, cache: linalg.SvdCache | None = None
) -> tuple[float | None, float | None]:
    """Mean over pairs of tasks of the overlap of their leading left and right singular subspaces.

    `rank` shrinks to the smallest numerical rank among the tasks; None where that is 0 or where there is no pair.
    """
    parts = [linalg.svd(update, rank, cache) for update in updates]
    k = min(len(part.s) for part in parts)
    pairs = list(combinations([part.top(k) for part in parts], 2))
    if not pairs or k == 0:
        return None, None
    left = fmean(float((a.u.T @ b.u).square().sum()) / k for a, b in pairs)
    right = fmean(float((a.v.T @ b.v).square().sum()) / k for a, b in pairs)
    return left, right


def angles(matrix: Tensor) -> Tensor:
    """Angles in degrees between all pairs of non-zero columns of a matrix [rows, columns], each pair once."""
    columns = matrix.detach().cpu().double().T
    norms = torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    units = columns[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
    cosine = units @ units.T
    return torch.rad2deg(torch.arccos(cosine[torch.ones_like(cosine, dtype=torch.bool).triu(1)].clamp(-1, 1)))


def tilt(degrees: Tensor) -> float:
    """Mean distance of angles from 90 degrees: 0 for orthogonal columns; 0 where there is no pair."""
    return float((degrees - 90).abs().mean()) if len(degrees) else 0.0


def histogram(degrees: Tensor) -> Tensor:
    """Counts [bins] of angles between `EDGES`; a bin holds its lower border, the last one 180 too."""
    inner = torch.tensor(EDGES[1:-1], dtype=degrees.dtype)
    return torch.bincount(torch.bucketize(degrees, inner, right=True), minlength=len(EDGES) - 1)


def shares(counts: Tensor) -> list[float]:
    """Counts as shares of their sum; zeros where nothing was counted."""
    return list(rounded((counts / counts.sum().clamp(min=1)).tolist()))


def powers_of_two(count: int) -> list[int]:
    """Places 0, 1, 3, 7, ... below `count`: the 1st, 2nd, 4th, 8th, ... singular value."""
    return [2**i - 1 for i in range(count.bit_length())]


def rounded(value: Any) -> Any:
    """Numbers at five significant digits, through lists."""
    if isinstance(value, Iterable):
        return [rounded(v) for v in value]
    return value if value is None or isinstance(value, int) else float(f"{value:.{DIGITS}g}")
