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

A sketch of k probes replaces G by H = (S D)^T (S D) / k, S standard normal `[k, rows]`: 6 k rows columns operations
for the gradient, 3 k / (2 columns) of the exact ones. H is unbiased, so the gradient 4 (D H - D) of the squared form
is too, and

    E || D H - D G ||^2 = (tr G tr G^2 + tr G^3) / k ,

which for a flat spectrum of n eigenvalues rho is rho sqrt((n + 1) / k) of ||D||: harmless while updates are small (2 %
at rho = 0.01, k = n / 4), useless near orthonormality. The value is unbiased too, by the moments of a Wishart matrix.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from methods.factors import Factors, Update
from methods.regularizers.record import Regularizer

FAMILY = {"form": ("frobenius",), "penalised": ("matrices",)}
"""Options of all three penalties.

`form`: `squared` is the paper's sum of squares, `frobenius` its released code (not squared).
`penalised`: `matrices` is every trainable 2-D parameter, as released; `layers` leaves out `NOT_LAYERS`.
"""

# A table of positions maps nothing, and the final projection is no layer of a block: matrices that are no layers.
NOT_LAYERS = ("positional_embedding", "proj")

# Below this many columns a Gram matrix is one product: its strips would be too thin to pay.
STRIPED = 128

SMALL = 0.2
"""Largest rho for bfloat16: a thousandth of the gradient."""


def penalises(name: str, *, penalised: str, **_: Any) -> bool:
    return penalised == "matrices" or name not in NOT_LAYERS


def formula(part: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The penalty of one matrix as a formula; `part` is what of G - I is penalised."""

    def value(update: Tensor, *, form: str, **_: Any) -> Tensor:
        rows, columns = update.shape
        product = update @ update.T if form == "frobenius" and rows < columns else update.T @ update
        total = part(product - torch.eye(len(product)).to(product)).square().sum()
        return total if form == "squared" or total == 0 else total.sqrt()  # the root of zero has a kink

    return value


def draws(updates: Mapping[str, Update], generator: Generator | None, *, form: str, sketch: int, **_: Any) -> Any:
    """One set of probes for all matrices: each takes as many entries of a probe as it has rows."""
    if sketch == 0:
        return {}
    if form != "squared":
        raise ValueError(f"orthoreg: sketch {sketch} with form {form!r}; orthoreg takes 2 or more, when squared")
    matrices = [u for u in updates.values() if isinstance(u, Tensor)]
    if not matrices:
        return {}  # low-rank updates are exact and cheaper still
    probes = torch.randn(int(sketch), max(max(u.shape) for u in matrices), generator=generator)
    return {"probes": probes.to(matrices[0])}


def dense(
    update: Tensor, grad: Tensor, strength: float, *, form: str, penalty_precision: str, probes: Any = None, **_: Any
) -> Tensor:
    """`probes` is `[sketch, rows]` standard normal, or None."""
    rows, columns = update.shape
    extra = max(0, columns - rows) if form == "squared" else 0
    if probes is not None and len(probes) < min(rows, columns):
        return _sketched(update, grad, strength, probes) + extra
    # Small matrices gain nothing from bfloat16: the casts cost as much as the product.
    mixed = penalty_precision == "mixed" and min(rows, columns) > STRIPED
    rough = _rough(update, grad, strength, form) if mixed else None
    return (rough if rough is not None else _exact(update, grad, strength, form)) + extra


def _exact(update: Tensor, grad: Tensor, strength: float, form: str) -> Tensor:
    wide = update.shape[0] < update.shape[1]
    excess = gram(update.T if wide else update)
    excess.diagonal().sub_(1)
    value, factor = weight(torch.linalg.vector_norm(excess).square(), strength, form)
    excess.mul_(4 * factor)
    if wide:
        grad.addmm_(excess, update)
    else:
        grad.addmm_(update, excess)
    return value


def _rough(update: Tensor, grad: Tensor, strength: float, form: str) -> Tensor | None:
    """The same with bfloat16 products, or None, and nothing changed, where they would be too coarse."""
    smaller, wide = min(update.shape), update.shape[0] < update.shape[1]
    trace = float(torch.linalg.vector_norm(update)) ** 2
    if trace > SMALL * smaller:  # the mean eigenvalue is at most rho: no need to look further
        return None
    half = update.bfloat16()
    product = gram(half.T if wide else half)
    square = torch.linalg.vector_norm(product, dtype=torch.float32).square()
    if float(square) > SMALL * trace:
        return None
    value, factor = weight(square - 2 * trace + smaller, strength, form)
    product.mul_(4 * factor)
    grad.add_(product @ half if wide else half @ product)
    grad.add_(update, alpha=-4 * float(factor))
    return value


def _sketched(update: Tensor, grad: Tensor, strength: float, probes: Tensor) -> Tensor:
    """Squared form. W = k H has E tr W^2 = k (k + 1) tr G^2 + k tr(G)^2 and E tr(W)^2 = k^2 tr(G)^2 + 2 k tr G^2."""
    wide, k = update.shape[0] < update.shape[1], len(probes)
    tall, tall_grad = (update.T, grad.T) if wide else (update, grad)
    seen = probes[:, : len(tall)] @ tall
    tall_grad.addmm_(tall @ seen.T, seen, alpha=4 * strength / k)
    grad.add_(update, alpha=-4 * strength)
    inner = (seen @ seen.T).double()
    square = (inner.square().sum() - inner.trace().square() / k) / ((k + 2) * (k - 1))
    trace = torch.linalg.vector_norm(update).double().square()
    return (square - 2 * trace + tall.shape[1]).to(update.dtype)


def factored(update: Factors, grad: Factors, strength: float, *, form: str, **_: Any) -> Tensor:
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


def gram(x: Tensor) -> Tensor:
    """`x^T x`, `[columns, columns]`; on a CPU in four strips that skip what symmetry gives: 5/8 of the products."""
    columns = x.shape[1]
    if columns < STRIPED or x.device.type != "cpu":
        return x.T @ x
    out, strip = x.new_empty(columns, columns), -(-columns // 4)
    for start in range(0, columns, strip):
        stop = min(start + strip, columns)
        torch.mm(x[:, start:stop].T, x[:, :stop], out=out[start:stop, :stop])
        out[:start, start:stop] = out[start:stop, :start].T
    return out


def weight(total: Tensor, strength: float, form: str) -> tuple[Tensor, Tensor]:
    """The penalty's value and the factor of its gradient, from the sum of squares `total`.

    Squared: `total` itself, factor `strength`. Frobenius: `sqrt(total)`, factor `strength / (2 sqrt(total))`, and zero
    at `total = 0`, where the norm has a kink and zero is a subgradient.
    """
    if form == "squared":
        return total, torch.full_like(total, strength)
    value = total.clamp(min=0).sqrt()
    return value, torch.where(value > 0, strength / (2 * value), torch.zeros_like(value))


REGULARIZER = Regularizer(
    "orthoreg",
    "Orthonormal updates",
    "arXiv:2604.17078",
    dense,
    factored,
    formula(lambda excess: excess),
    grid={**FAMILY, "penalty_precision": ("float32",), "sketch": (0,)},
    penalises=penalises,
    draws=draws,
    formula="frobenius: sum over matrices of |G - I|_F, G the smaller Gram matrix of D; squared: |D^T D - I|_F^2",
)
