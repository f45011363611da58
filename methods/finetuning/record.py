"""The record of a fine-tuning method: what trains, how it enters the forward pass, and how it becomes a task vector.

One loop (`bench.work.finetune.train`) serves every method; a method is these hooks and nothing else. `pretrained` maps
the tower's parameter names to tensors and is never written to; `leaves` maps names to what the optimiser moves. The
options of a method (`grid`: the default first, then what is worth searching) are passed to every hook by keyword.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from methods.factors import Factors, Update
from methods.options import Declares, Grid
from methods.vectors import TaskVector

Params = Mapping[str, Tensor]


def moved(pretrained: Params, leaves: Params, **options: Any) -> dict[str, Update]:
    """`leaves - pretrained`, the update of every weight that trains."""
    return {name: leaf - pretrained[name] for name, leaf in leaves.items()}


def replaced(pretrained: Params, leaves: Params, **options: Any) -> dict[str, Tensor]:
    """The pretrained weights with the trained ones in their places."""
    return {**pretrained, **leaves}


def same(grads: Params, **options: Any) -> dict[str, Update]:
    """Gradients of leaves that are weights already belong to the updates of the same names."""
    return dict(grads)


@dataclass(frozen=True, eq=False)
class FineTuning(Declares):
    """One way to fine-tune. The defaults of the hooks are those of a method that moves weights directly.

    * `start(pretrained, generator, **options)`: the initial leaves, new tensors; random ones from `generator` only.
    * `weights(pretrained, leaves, **options)`: every parameter for the forward pass, differentiable in the leaves.
    * `updates(pretrained, leaves, **options)`: by weight name, the update as a tensor or as `Factors`: what a
      regulariser sees. Called without a graph.
    * `gradients(grads, **options)`: gradients of the leaves, regrouped by weight name as `updates` groups the leaves:
      the given tensors or views of them, since a regulariser adds to them in place.
    * `tangent`: the model is linear in the update, `f0 + J update`, at training and at evaluation alike.
    """

    name: str
    title: str
    paper: str
    start: Callable[..., dict[str, Tensor]]
    weights: Callable[..., dict[str, Tensor]] = replaced
    updates: Callable[..., dict[str, Update]] = moved
    gradients: Callable[..., dict[str, Update]] = same
    grid: Grid = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    tangent: bool = False
    formula: str = ""  # one line of text
    citation: str = ""  # BibTeX, where `paper` is not in bench's own bibliography
    version: int = 1  # raised when the experts a method trains change

    def delta(self, pretrained: Params, leaves: Params, **options: Any) -> TaskVector:
        """The task vector: dense, in the tower's parameter names, only the names that this method changes."""
        updates = self.updates(pretrained, _detached(leaves), **options)
        return {name: u.dense() if isinstance(u, Factors) else u for name, u in updates.items()}

    def factors(self, pretrained: Params, leaves: Params, **options: Any) -> dict[str, tuple[Tensor, Tensor]] | None:
        """`(B, A)` with `delta == B @ A` (the scale is inside B), or None for a method whose updates have full rank."""
        updates = self.updates(pretrained, _detached(leaves), **options)
        pairs = {name: (u.b * u.scale, u.a.clone()) for name, u in updates.items() if isinstance(u, Factors)}
        return pairs or None


def _detached(leaves: Params) -> dict[str, Tensor]:
    return {name: leaf.detach() for name, leaf in leaves.items()}


def attention_matrices(pretrained: Params, who: str) -> list[str]:
    """Names of the two attention matrices of every block: fused query-key-value projection and output projection."""
    names = [n for n in pretrained if n.endswith(("attn.in_proj_weight", "attn.out_proj.weight"))]
    if not names:
        raise ValueError(f"{who}: this tower has no attn.in_proj_weight; use 'nonlinear' or 'tta' with it")
    return names


def copies(pretrained: Params, names: list[str]) -> dict[str, Tensor]:
    """New tensors with the values of the named floating-point parameters."""
    return {name: pretrained[name].detach().clone() for name in names if pretrained[name].is_floating_point()}
