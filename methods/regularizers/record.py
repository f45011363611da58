"""The record of a regulariser: a penalty on weight updates, with its gradient in closed form or by autograd."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from methods.factors import Factors, Update
from methods.options import Declares, Grid, chosen


def every_matrix(name: str, **options: Any) -> bool:
    """No matrix is left out."""
    return True


def nothing(updates: Mapping[str, Update], generator: Generator | None, **options: Any) -> dict[str, Any]:
    """No randomness."""
    return {}


@dataclass(frozen=True, eq=False)
class Regularizer(Declares):
    """A penalty `sum over matrices of value(update)`. Every hook gets the options by keyword.

    * `value(update, **options)`: the penalty of one matrix, 0-d, differentiable.
    * `dense(update, grad, strength, **options)` and `factored(...)`, for a `Factors`: add `strength` times its gradient
      to `grad` in place and return the value (without the strength). Without them autograd differentiates `value`.
    * `penalises(name, **options)`: whether the matrix of this name counts.
    * `draws(updates, generator, **options)`: further keywords of `dense`, drawn once a step for all matrices.

    An option `strength` in the grid is the default weight of the penalty where a suite names none.
    """

    name: str
    title: str
    paper: str
    dense: Callable[..., Tensor] | None = None
    factored: Callable[..., Tensor] | None = None
    value: Callable[..., Tensor] | None = None
    grid: Grid = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    penalises: Callable[..., bool] = every_matrix
    draws: Callable[..., Mapping[str, Any]] = nothing
    formula: str = ""  # one line of text
    citation: str = ""  # BibTeX, where `paper` is not in bench's own bibliography
    version: int = 1  # raised when the gradients change

    @torch.no_grad()
    def add_gradient(
        self,
        updates: Mapping[str, Update],
        grads: Mapping[str, Any],
        strength: float,
        *,
        generator: Generator | None = None,
        plain: bool = False,
        **given: Any,
    ) -> Tensor:
        """Add the penalty's gradient times `strength` to `grads` in place; return its value, 0-d, unweighted.

        `updates` maps weight names to updates, tensors or `Factors`; `grads` has the same names and shapes. Only
        matrices are penalised: a `Factors`, or a tensor with exactly two axes. That is the released code's rule
        ("trainable 2-D parameters"), so the patch convolution, biases, norms and the class token are left out.

        `given` are options that differ from their defaults. `plain` differentiates `value` by autograd where there is a
        closed form too, for debugging: slow, and what the closed form must equal; what is drawn has no such way.
        """
        options = chosen(self.name, self.declared, given)
        options.pop("strength", None)
        matrices = {
            name: update
            for name, update in updates.items()
            if (isinstance(update, Factors) or update.ndim == 2) and self.penalises(name, **options)
        }
        if not matrices:
            raise ValueError(f"{self.name}: no matrix among the {len(updates)} updates; this method trains none")
        drawn = self.draws(matrices, generator, **options)
        by_autograd = plain and self.value is not None and not drawn
        values = []
        for name, update in matrices.items():
            closed = None if by_autograd else self.factored if isinstance(update, Factors) else self.dense
            add = closed or self._differentiate
            values.append(add(update, grads[name], strength, **options, **(drawn if closed else {})))
        return torch.stack(values).sum()

    @torch.enable_grad()
    def _differentiate(self, update: Update, grad: Any, strength: float, **options: Any) -> Tensor:
        """One matrix by its formula, low-rank updates multiplied out."""
        if self.value is None:
            raise ValueError(f"{self.name}: it has neither a closed form nor a value for {type(update).__name__}")
        own, grads = ((update.b, update.a), (grad.b, grad.a)) if isinstance(update, Factors) else ((update,), (grad,))
        leaves = [x.detach().requires_grad_() for x in own]
        whole = update.scale * leaves[0] @ leaves[1] if isinstance(update, Factors) else leaves[0]
        value = self.value(whole, **options)
        if value.requires_grad:  # a penalty that is not active may be a constant
            for one, more in zip(grads, torch.autograd.grad(strength * value, leaves), strict=True):
                one.detach().add_(more)
        return value.detach()
