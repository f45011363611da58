"""MagMax (Marczak et al., 2024): the entry of largest magnitude over tasks, with its sign.

    merged = tau_{argmax_t |tau_t|}

Equal magnitudes of opposite sign give the positive one, so task order does not matter. The paper fine-tunes the tasks
in sequence; on independent experts, as here, published results are lower (71.1 against 80.6 on ViT-B-32).
"""

import torch

from methods.operator import MEANS, Operator
from methods.vectors import TaskVector, Vectors, chunks


def merge(vectors: Vectors) -> TaskVector:
    merged: TaskVector = {}
    for name in vectors[0]:
        out, start = torch.empty_like(vectors[0][name]).reshape(-1), 0
        for piece in chunks(vectors, name):
            high, low = piece.amax(dim=0), piece.amin(dim=0)
            out[start : start + len(high)] = torch.where(high >= -low, high, low)
            start += len(high)
        merged[name] = out.view(vectors[0][name].shape)
    return merged


OPERATOR = Operator(
    "magmax",
    merge,
    title="MagMax",
    paper="arXiv:2407.06322",
    formula="merged = the tau_t of largest magnitude, entry by entry",
    coefficients=MEANS,
    per_tensor=True,
)
