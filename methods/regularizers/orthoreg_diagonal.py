"""OrthoReg's diagonal alone: pull the norm of every column of the update to 1, leave their angles free.

    squared     sum_j (||d_j||^2 - 1)^2          frobenius     its square root

An ablation: norm control without angle control. Unlike the whole penalty, its parts are not the same on both sides of a
matrix, so the side must be named: `squared` takes the columns, always, as the paper's `D^T D` does; `frobenius` takes
the smaller side (rows where the matrix is wide), as the released code does. So in either form the sums of squares of
`orthoreg_diagonal` and `orthoreg_offdiagonal` add up to that of `orthoreg`. One pass over the matrix, no product.
"""

from typing import Any

from torch import Tensor

from methods.factors import Factors
from methods.regularizers.orthoreg import FAMILY, formula, penalises, weight
from methods.regularizers.record import Regularizer


def by_rows(rows: int, columns: int, form: str) -> bool:
    """Whether the Gram matrix meant is that of the rows."""
    return form == "frobenius" and rows < columns


def dense(update: Tensor, grad: Tensor, strength: float, *, form: str, **others: Any) -> Tensor:
    along = 1 if by_rows(update.shape[0], update.shape[1], form) else 0
    excess = update.square().sum(dim=along, keepdim=True) - 1
    value, factor = weight(excess.square().sum(), strength, form)
    grad.addcmul_(update, 4 * factor * excess)
    return value


def factored(update: Factors, grad: Factors, strength: float, *, form: str, **others: Any) -> Tensor:
    """Column j of D = s B A has the squared norm `s^2 a_j^T (B^T B) a_j`."""
    (b, a, scale), (grad_b, grad_a, _) = by_columns(update, grad, form)
    left = scale * scale * (b.T @ b) @ a
    excess = (a * left).sum(dim=0) - 1
    value, factor = weight(excess.square().sum(), strength, form)
    push = 4 * factor * excess
    grad_b.addmm_(b, (scale * scale) * ((a * push) @ a.T))
    grad_a.addcmul_(left, push)
    return value


def by_columns(update: Factors, grad: Factors, form: str) -> tuple[Factors, Factors]:
    """Both as they are, or transposed where rows are meant: B and A change places."""
    if not by_rows(update.b.shape[0], update.a.shape[1], form):
        return update, grad
    return Factors(update.a.T, update.b.T, update.scale), Factors(grad.a.T, grad.b.T)


REGULARIZER = Regularizer(
    "orthoreg_diagonal",
    "Column norms of updates (ablation)",
    "arXiv:2604.17078",
    dense,
    factored,
    formula(lambda excess: excess.diagonal().diag()),
    grid=FAMILY,
    penalises=penalises,
    formula="squared: sum over matrices of sum_j (|d_j|^2 - 1)^2, d_j columns of D; frobenius: its root, smaller side",
)
