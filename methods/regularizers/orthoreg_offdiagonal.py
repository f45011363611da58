"""OrthoReg's off-diagonal alone: pull the columns of the update apart, leave their norms free.

    squared     sum_{i != j} (d_i . d_j)^2       frobenius     its square root

An ablation: angle control without norm control. Sides as in `orthoreg_diagonal`: `squared` means the columns,
`frobenius` the smaller side. Where columns are meant but rows are fewer, `||D^T D||^2 = ||D D^T||^2` still gives
everything from the smaller Gram matrix: the diagonal's share is subtracted from the value and from the gradient.
Columns outnumber the rank there, so the difference is never small against its parts. Always in float32: no identity
can be split off, so bfloat16 would cost 0.3 % of the gradient everywhere.
"""

from typing import Any

import torch
from torch import Tensor

from methods.factors import Factors
from methods.regularizers.orthoreg import FAMILY, formula, gram, grams, penalises, weight
from methods.regularizers.orthoreg_diagonal import by_columns, by_rows
from methods.regularizers.record import Regularizer


def dense(update: Tensor, grad: Tensor, strength: float, *, form: str, **others: Any) -> Tensor:
    rows, columns = update.shape
    wide = rows < columns
    tall, tall_grad = (update.T, grad.T) if wide else (update, grad)
    product = gram(tall)
    if wide and not by_rows(rows, columns, form):  # columns are meant, and the rows' Gram matrix is the smaller one
        norms = update.square().sum(dim=0)
        total = torch.linalg.vector_norm(product).square() - norms.square().sum()
        value, factor = weight(total, strength, form)
        grad.addcmul_(update, -4 * factor * norms)
    else:
        product.diagonal().zero_()
        value, factor = weight(torch.linalg.vector_norm(product).square(), strength, form)
    tall_grad.addmm_(tall, product.mul_(4 * factor))
    return value


def factored(update: Factors, grad: Factors, strength: float, *, form: str, **others: Any) -> Tensor:
    (b, a, scale), (grad_b, grad_a, _) = by_columns(update, grad, form)
    p, q = grams(b, a, scale)
    m = p @ q
    left = scale * p.to(a.dtype) @ a
    norms = (a * left).sum(dim=0)
    total = (m * m.T).sum() - norms.double().square().sum()
    value, factor = weight(total, strength, form)
    push = norms * (4 * factor).to(a.dtype)
    factor = 4 * scale * factor
    grad_b.addmm_(b, (factor * (q @ m)).to(b.dtype) - scale * scale * ((a * push) @ a.T))
    grad_a.addmm_((factor * (m @ p)).to(a.dtype), a).sub_(left * push)
    return value.to(a.dtype)


REGULARIZER = Regularizer(
    "orthoreg_offdiagonal",
    "Angles between columns of updates (ablation)",
    "arXiv:2604.17078",
    dense,
    factored,
    formula(lambda excess: excess - excess.diagonal().diag()),
    grid=FAMILY,
    penalises=penalises,
    formula="squared: sum over matrices of sum_{i != j} (d_i . d_j)^2; frobenius: its root, smaller side",
)
