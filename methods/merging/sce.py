"""SCE (Wan et al., 2024, FuseChat): select entries that vary, weigh tasks by energy, erase minority signs.

For each tensor, keep the `density` share of entries with the largest variance over tasks (of those that vary at all),
and

    w_t = mean(tau_t^2) / sum_j mean(tau_j^2)        s = sign(sum_t tau_t), + where it is zero
    merged = sum_t w_t tau_t 1[sign(tau_t) = s] / sum_t w_t 1[sign(tau_t) = s]

as in mergekit, whose default keeps everything. Where no entry varies (one task, identical tasks) nothing is deselected;
mergekit would erase the tensor.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from methods.operator import SPECTRAL, Operator
from methods.vectors import TaskVector, Vectors, chunks, stack


def least_variance(vectors: Vectors, name: str, density: float) -> float:
    """The variance from which entries are kept; 0 keeps all of them."""
    if density >= 1:
        return 0.0
    variance = stack(vectors, name).reshape(len(vectors), -1).var(dim=0, unbiased=False)
    varying = int(torch.count_nonzero(variance))
    if not varying:
        return 0.0
    kept = max(1, round(density * varying))
    return float(variance.kthvalue(variance.numel() - kept + 1).values)


def merge(vectors: Vectors, *, density: float) -> TaskVector:
    merged: TaskVector = {}
    for name in vectors[0]:
        least = least_variance(vectors, name, density)

        def selected(name: str = name, least: float = least) -> Iterator[Tensor]:
            for piece in chunks(vectors, name):
                yield piece.mul_(piece.var(dim=0, unbiased=False) >= least) if least else piece

        energy = torch.zeros(len(vectors), dtype=torch.float64)
        for piece in selected():
            energy += torch.linalg.vector_norm(piece, dim=1).double().square()
        out, start = torch.zeros_like(vectors[0][name]).reshape(-1), 0
        weight = (energy / energy.sum()).to(out.dtype) if energy.any() else energy.to(out.dtype)
        for piece in selected():
            sign = torch.where(piece.sum(dim=0) >= 0, 1.0, -1.0).to(out.dtype)
            agreeing = (piece * sign).clamp_(min=0)  # magnitudes of the entries with the majority's sign
            value = weight @ agreeing
            share = weight @ agreeing.sign_()
            out[start : start + len(sign)] = sign * value / torch.where(share > 0, share, 1)
            start += len(sign)
        merged[name] = out.view(vectors[0][name].shape)
    return merged


OPERATOR = Operator(
    "sce",
    merge,
    title="Select, calculate, erase",
    paper="arXiv:2408.07990",
    formula="w_t = share of energy; merged = sum_t w_t tau_t [sign agrees] / sum_t w_t [sign agrees]",
    grid={"density": (1.0, 0.1, 0.5)},
    coefficients=SPECTRAL,
    per_tensor=True,
)
