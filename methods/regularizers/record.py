"""The record of a regulariser: a penalty on weight updates, with its gradient in closed form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from methods.factors import Factors, Update

FORMS = ("frobenius", "squared")

# Tables and projections that are stored as matrices but are no layer inside the blocks.
NOT_LAYERS = ("positional_embedding", "proj")


@dataclass(frozen=True, eq=False)
class Regularizer:
    """A penalty `sum over matrices of penalty(update)`.

    `dense(update, grad, strength, form)` and `factored(update, grad, strength, form)` serve one matrix each: they add
    `strength` times the gradient to `grad` in place and return the value (without the strength) as a 0-d tensor.
    """

    name: str
    title: str
    paper: str
    dense: Callable[..., Tensor]
    factored: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=lambda: {"form": "frobenius", "penalised": "matrices"})
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
    ) -> Tensor:
        """Add the penalty's gradient times `strength` to `grads` in place; return the penalty's value, 0-d, unweighted.

        `updates` maps weight names to updates, tensors or `Factors`; `grads` has the same names and shapes. Only matrices
        are penalised: a `Factors`, or a tensor with exactly two axes. That is the released code's rule ("trainable 2-D
        parameters"), so the patch convolution, biases, norms and the class token are left out, while the positional
        table and the final projection are in, with `penalised="matrices"`. Neither is a layer whose output directions
        the method's argument is about; `penalised="layers"` leaves these two out.
        """
        if form not in FORMS:
            raise ValueError(f"{self.name}: form {form!r} is unknown; give 'frobenius' or 'squared'")
        if penalised not in ("matrices", "layers"):
            raise ValueError(f"{self.name}: penalised {penalised!r} is unknown; give 'matrices' or 'layers'")
        values = []
        for name, update in updates.items():
            if penalised == "layers" and name in NOT_LAYERS:
                continue
            if isinstance(update, Factors):
                values.append(self.factored(update, grads[name], strength, form))
            elif update.ndim == 2:
                values.append(self.dense(update, grads[name], strength, form))
        if not values:
            raise ValueError(f"{self.name}: no matrix among the {len(updates)} updates; this method trains none")
        return torch.stack(values).sum()


def weight(total: Tensor, strength: float, form: str) -> tuple[Tensor, Tensor]:
    """The penalty's value and the factor of its gradient, from the sum of squares `total`.

    Squared: `total` itself, factor `strength`. Frobenius: `sqrt(total)`, factor `strength / (2 sqrt(total))`, and zero
    at `total = 0`, where the norm has a kink and zero is a subgradient.
    """
    if form == "squared":
        return total, torch.full_like(total, strength)
    value = total.clamp(min=0).sqrt()
    return value, torch.where(value > 0, strength / (2 * value), torch.zeros_like(value))
