"""The record of a regulariser: a penalty on weight updates, with its gradient in closed form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from methods.factors import Factors, Update

CHOICES = {
    "form": ("frobenius", "squared"),
    "penalised": ("matrices", "layers"),
    "precision": ("float32", "mixed"),
}
"""Options with a fixed set of values; the first is the default."""

# Tables and projections that are stored as matrices but are no layer inside the blocks.
NOT_LAYERS = ("positional_embedding", "proj")

# Below this many columns a Gram matrix is one product: its strips would be too thin to pay.
STRIPED = 128


@dataclass(frozen=True)
class Settings:
    """How one call computes: see `Regularizer.add_gradient`. `probes` is `[sketch, rows]` standard normal, or None."""

    form: str
    mixed: bool
    probes: Tensor | None


@dataclass(frozen=True, eq=False)
class Regularizer:
    """A penalty `sum over matrices of penalty(update)`.

    `dense(update, grad, strength, settings)` and `factored(...)` serve one matrix each: they add `strength` times the
    gradient to `grad` in place and return the value (without the strength) as a 0-d tensor.
    """

    name: str
    title: str
    paper: str
    dense: Callable[[Tensor, Tensor, float, Settings], Tensor]
    factored: Callable[[Factors, Factors, float, Settings], Tensor]
    options: Mapping[str, Any] = field(default_factory=lambda: {**{k: v[0] for k, v in CHOICES.items()}, "sketch": 0})
    sketches: bool = False  # `dense` can use probes
    part: Callable[[Tensor], Tensor] | None = None  # of G - I, what is penalised: for `plain`
    formula: str = ""  # one line of text
    version: int = 1  # raised when the gradients change

    @torch.no_grad()
    def add_gradient(
        self,
        updates: Mapping[str, Update],
        grads: Mapping[str, Any],
        strength: float,
        *,
        form: str = "frobenius",
        penalised: str = "matrices",
        precision: str = "float32",
        sketch: int = 0,
        generator: Generator | None = None,
        plain: bool = False,
    ) -> Tensor:
        """Add the penalty's gradient times `strength` to `grads` in place; return its value, 0-d, unweighted.

        `updates` maps weight names to updates, tensors or `Factors`; `grads` has the same names and shapes. Only
        matrices are penalised: a `Factors`, or a tensor with exactly two axes. That is the released code's rule
        ("trainable 2-D parameters"), so the patch convolution, biases, norms and the class token are left out, while
        with `penalised="matrices"` the positional table and the final projection are in. A table of positions maps
        nothing, and the projection is no layer of a block; `penalised="layers"` leaves these two out.

        `precision="mixed"` lets a regulariser multiply in bfloat16 where its rounding stays below a thousandth of the
        gradient, and `sketch=k` lets it estimate from k random probes of `generator` (on the CPU): see
        `methods.regularizers.orthoreg` for both. `plain` differentiates the formula by autograd instead, for debugging:
        slow, and what the closed form must equal; a sketch, and a regulariser without `part`, have no such way.
        """
        given = {"form": form, "penalised": penalised, "precision": precision}
        for option, (first, second) in CHOICES.items():
            if given[option] not in (first, second):
                raise ValueError(f"{self.name}: {option} {given[option]!r} is unknown; give {first!r} or {second!r}")
        chosen = {
            name: update
            for name, update in updates.items()
            if (isinstance(update, Factors) or update.ndim == 2) and not (penalised == "layers" and name in NOT_LAYERS)
        }
        if not chosen:
            raise ValueError(f"{self.name}: no matrix among the {len(updates)} updates; this method trains none")
        if plain and self.part is not None and not sketch:
            return torch.stack([self._plain(self.part, u, grads[n], strength, form) for n, u in chosen.items()]).sum()
        settings = Settings(form, precision == "mixed", self._probes(chosen, form, sketch, generator))
        values = []
        for name, update in chosen.items():
            if isinstance(update, Factors):
                values.append(self.factored(update, grads[name], strength, settings))
            else:
                values.append(self.dense(update, grads[name], strength, settings))
        return torch.stack(values).sum()

    @staticmethod
    @torch.enable_grad()
    def _plain(part: Callable[[Tensor], Tensor], update: Update, grad: Any, strength: float, form: str) -> Tensor:
        """One matrix by the formula, low-rank updates multiplied out."""
        if isinstance(update, Factors):
            leaves, grads = [update.b.detach().requires_grad_(), update.a.detach().requires_grad_()], [grad.b, grad.a]
            moved = update.scale * leaves[0] @ leaves[1]
        else:
            leaves, grads = [update.detach().requires_grad_()], [grad]
            moved = leaves[0]
        rows, columns = moved.shape
        product = moved @ moved.T if form == "frobenius" and rows < columns else moved.T @ moved
        total = part(product - torch.eye(len(product)).to(product)).square().sum()
        value = total if form == "squared" else total.sqrt()
        if value > 0:  # where the root is zero it has a kink, and zero is a subgradient
            for one, more in zip(grads, torch.autograd.grad(strength * value, leaves), strict=True):
                one.detach().add_(more)
        return value.detach()

    def _probes(
        self, updates: Mapping[str, Update], form: str, sketch: int, generator: Generator | None
    ) -> Tensor | None:
        """One set for all matrices: each takes as many entries of a probe as it has rows."""
        if sketch == 0:
            return None
        if not self.sketches or form != "squared" or sketch < 2:
            raise ValueError(f"{self.name}: sketch {sketch} with form {form!r}; orthoreg takes 2 or more, when squared")
        matrices = [u for u in updates.values() if isinstance(u, Tensor)]
        if not matrices:
            return None  # low-rank updates are exact and cheaper still
        probes = torch.randn(sketch, max(max(u.shape) for u in matrices), generator=generator)
        return probes.to(matrices[0])


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
