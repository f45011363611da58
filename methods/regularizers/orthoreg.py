"""OrthoReg: pull the update of every matrix towards orthonormal columns.

    squared     sum over matrices of  || D^T D - I ||_F^2         the paper's formula, D = W - W_0
    frobenius   sum over matrices of  || G - I ||_F               the released code: not squared, G the Gram matrix on the
                                                                  smaller side of D

With E = G - I and d the smaller side, the gradients are 4 D E (or 4 E D) and 2 D E / ||E||: one Gram matrix and one
product, always on the smaller side. For `squared` the larger side's value is more by the constant `columns - rows` where
a matrix is wide; its gradient is the same.

At D = 0 the gradient is exactly zero, and while D is small it is nearly `-4 D` (or `-2 D / sqrt(d)`): negative weight
decay, which makes the update grow. `orthoreg_diagonal` and `orthoreg_offdiagonal` take the two effects apart.

A low-rank D = s B A is never formed. With P = B^T B, Q = A A^T (rank x rank):

    ||D^T D||^2 = s^4 tr(PQPQ),   grad_B = 4 B (s^4 QPQ - s^2 Q),   grad_A = 4 (s^4 PQP - s^2 P) A.
"""

import torch
from torch import Tensor

from methods.factors import Factors
from methods.regularizers.record import Regularizer, weight


def dense(update: Tensor, grad: Tensor, strength: float, form: str) -> Tensor:
    rows, columns = update.shape
    wide = rows < columns
    gram = update @ update.T if wide else update.T @ update
    gram.diagonal().sub_(1)
    total = torch.linalg.vector_norm(gram).square()
    extra = max(0, columns - rows) if form == "squared" else 0
    value, factor = weight(total, strength, form)
    gram.mul_(4 * factor)
    if wide:
        grad.addmm_(gram, update)
    else:
        grad.addmm_(update, gram)
    return value + extra


def factored(update: Factors, grad: Factors, strength: float, form: str) -> Tensor:
    b, a, scale = update
    columns, smaller = a.shape[1], min(b.shape[0], a.shape[1])
    p, q = grams(b, a, scale)
    m = p @ q
    total = (m * m.T).sum() - 2 * m.trace() + (columns if form == "squared" else smaller)
    value, factor = weight(total, strength, form)
    factor = 4 * scale * factor
    grad.b.addmm_(b, (factor * (q @ m - q)).to(b.dtype))
    grad.a.addmm_((factor * (m @ p - p)).to(a.dtype), a)
    return value.to(a.dtype)


def grams(b: Tensor, a: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """`s B^T B` and `s A A^T` in double precision: rank x rank, so it costs nothing and keeps small differences."""
    return scale * (b.T @ b).double(), scale * (a @ a.T).double()


REGULARIZER = Regularizer("orthoreg", "Orthonormal updates", "arXiv:2604.17078", dense, factored)
