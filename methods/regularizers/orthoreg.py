"""OrthoReg: pull the update of every matrix towards orthonormal columns.

    squared     sum over matrices of  || D^T D - I ||_F^2     the paper's formula, D = W - W_0
    frobenius   sum over matrices of  || G - I ||_F           the released code: not squared, G the smaller Gram matrix

With E = G - I and d the smaller side, the gradients are 4 D E (or 4 E D) and 2 D E / ||E||: one Gram matrix and one
product, always on the smaller side. For `squared` the larger side's value is more by the constant `columns - rows`
where a matrix is wide; its gradient is the same.

At D = 0 the gradient is exactly zero, and while D is small it is nearly `-4 D` (or `-2 D / sqrt(d)`): negative weight
decay, which makes the update grow. `orthoreg_diagonal` and `orthoreg_offdiagonal` take the two effects apart.

A low-rank D = s B A is never formed. With P = B^T B, Q = A A^T (rank x rank):

    ||D^T D||^2 = s^4 tr(PQPQ),   grad_B = 4 B (s^4 QPQ - s^2 Q),   grad_A = 4 (s^4 PQP - s^2 P) A.

In mixed precision D G is a bfloat16 product while -D, the identity's share, is added exactly. With rho = ||G||^2 / tr G
(the mean eigenvalue of G, weighted by itself) the gradient's relative error is about 2^-8 rho / (1 - rho): 1e-5 while
updates are small. Above `SMALL` the matrix is done in float32, since near orthonormality D G and D cancel.
"""

import torch
from torch import Tensor

from methods.factors import Factors
from methods.regularizers.record import Regularizer, gram, weight

SMALL = 0.2
"""Largest rho for bfloat16: a thousandth of the gradient."""


def dense(update: Tensor, grad: Tensor, strength: float, form: str, mixed: bool) -> Tensor:
    wide = update.shape[0] < update.shape[1]
    extra = update.shape[1] - update.shape[0] if wide and form == "squared" else 0
    tall, grad = (update.T, grad.T) if wide else (update, grad)
    rough = _rough(tall, grad, strength, form) if mixed else None
    return (rough if rough is not None else _exact(tall, grad, strength, form)) + extra


def _exact(tall: Tensor, grad: Tensor, strength: float, form: str) -> Tensor:
    excess = gram(tall)
    excess.diagonal().sub_(1)
    value, factor = weight(torch.linalg.vector_norm(excess).square(), strength, form)
    grad.addmm_(tall, excess.mul_(4 * factor))
    return value


def _rough(tall: Tensor, grad: Tensor, strength: float, form: str) -> Tensor | None:
    """The same with bfloat16 products, or None, and nothing changed, where they would be too coarse."""
    trace, columns = torch.linalg.vector_norm(tall).square(), tall.shape[1]
    if float(trace) > SMALL * columns:  # the mean eigenvalue is at most rho: no need to look further
        return None
    half = tall.bfloat16()
    product = gram(half)
    square = torch.linalg.vector_norm(product, dtype=torch.float32).square()
    if not float(square) <= SMALL * float(trace):
        return None
    value, factor = weight(square - 2 * trace + columns, strength, form)
    grad.add_((half @ product).to(grad.dtype).sub_(tall).mul_(4 * factor))
    return value


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
