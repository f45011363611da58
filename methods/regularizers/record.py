"""The record of a regulariser: a penalty on weight updates, with its gradient in closed form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.factors import Factors, Update

FORMS = ("frobenius", "squared")
PRECISIONS = ("float32", "mixed")

# Below this many columns a Gram matrix is one product: its strips would be too thin to pay.
STRIPED = 128

# Tables and projections that are stored as matrices but are no layer inside the blocks.
NOT_LAYERS = ("positional_embedding", "proj")


@dataclass(frozen=True, eq=False)
class Regularizer:
    """A penalty `sum over matrices of penalty(update)`.

    `dense(update, grad, strength, form, mixed)` and `factored(update, grad, strength, form)` serve one matrix each:
    they add `strength` times the gradient to `grad` in place and return the value (without the strength), 0-d.
    """

    name: str
    title: str
    paper: str
    dense: Callable[..., Tensor]
    factored: Callable[..., Tensor]
    version: int = 1  # raised when the gradients change

    @torch.no_grad()
    def add_gradient(
        self,
        updates: Mapping[str, Update],
        grads: Mapping[str, Update],
        strength: float,
        *,
        form: str = "frobenius",
        penalised: str = "matrices",
        precision: str = "float32",
    ) -> Tensor:
        """Add the penalty's gradient times `strength` to `grads` in place; return its value, 0-d, unweighted.

        `updates` maps weight names to updates, tensors or `Factors`; `grads` has the same names and shapes. Only
        matrices are penalised: a `Factors`, or a tensor with exactly two axes. That is the released code's rule
        ("trainable 2-D parameters"), so the patch convolution, biases, norms and the class token are left out, while
        with `penalised="matrices"` the positional table and the final projection are in. A table of positions maps
        nothing, and the projection is no layer of a block; `penalised="layers"` leaves these two out.

        `precision="mixed"` lets a regulariser multiply in bfloat16 where its rounding stays below a thousandth of the
        gradient (see `methods.regularizers.orthoreg`); it pays where the processor has bfloat16 products.
        """
        for option, value, known in (
            ("form", form, FORMS),
            ("penalised", penalised, ("matrices", "layers")),
            ("precision", precision, PRECISIONS),
        ):
            if value not in known:
                raise ValueError(f"{self.name}: {option} {value!r} is unknown; give {known[0]!r} or {known[1]!r}")
        values = []
        for name, update in updates.items():
            if penalised == "layers" and name in NOT_LAYERS:
                continue
            if isinstance(update, Factors):
                values.append(self.factored(update, grads[name], strength, form))
            elif update.ndim == 2:
                values.append(self.dense(update, grads[name], strength, form, precision == "mixed"))
        if not values:
            raise ValueError(f"{self.name}: no matrix among the {len(updates)} updates; this method trains none")
        return torch.stack(values).sum()


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
