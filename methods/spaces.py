"""Spaces: where an operator works. A space wraps an operator into one that goes there, merges, and comes back.

* `fused`: the parameters as they are. open_clip keeps q, k and v in one `in_proj_weight` [3 d, d].
* `split_qkv`: q, k and v as three matrices (and biases), as Hugging Face's CLIP has them. Every spectral operator gives
  another result: TSV-M, for one, gives rank d / T to q, k and v together, or to each.
* `core` (Panariello et al., 2025): for LoRA updates B_t A_t, with U an orthonormal basis of the columns of [B_1 .. B_T]
  and V of the rows of [A_1; ..; A_T], merge the small cores U^T B_t A_t V, losslessly, and return U M V^T.
* `knots` (Stoica et al., 2025): with [B_1 A_1 | .. | B_T A_T] = U S [V_1 .. V_T], merge S V_t ("sv", official) or V_t
  ("v", core-space; 48 % apart with TIES) and return U M or U S M. Equal to full space for linear operators.

The last two need the experts' factors: `factors`, one dict for each expert, name -> (B [m, r], A [r, n]), with alpha /
r inside B. In full space the null directions of such updates are dropped (`methods.linalg.polar`); here there are none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from methods.linalg import svd
from methods.operator import Operator
from methods.vectors import TaskVector, Vectors

Pairs = Sequence[Mapping[str, tuple[Tensor, Tensor]]]
SUFFIXES = ("in_proj_weight", "in_proj_bias")
ROWS = {"#q": 0, "#k": 1, "#v": 2}


class _Split(Mapping[str, Tensor]):
    """A task vector whose fused projections appear as three tensors."""

    def __init__(self, vector: Mapping[str, Tensor]) -> None:
        self._vector = vector

    def __getitem__(self, name: str) -> Tensor:
        if name[-2:] not in ROWS:
            return self._vector[name]
        return self._vector[name[:-2]].chunk(3)[ROWS[name[-2:]]]

    def __iter__(self) -> Iterator[str]:
        for name in self._vector:
            if name.endswith(SUFFIXES) and len(self._vector[name]) % 3 == 0:
                yield from (name + row for row in ROWS)
            else:
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _join(vectors: Vectors, merged: Mapping[str, Tensor]) -> TaskVector:
    return {
        name: merged[name] if name in merged else torch.cat([merged[name + row] for row in ROWS]) for name in vectors[0]
    }


def split_qkv(operator: Operator) -> Operator:
    """The operator on q, k and v apart."""

    def function(vectors: Vectors, **inputs: Any) -> TaskVector | list[TaskVector]:
        merged = operator.function([_Split(vector) for vector in vectors], **inputs)
        if operator.per_task:
            return [_join(vectors, each) for each in merged]
        return _join(vectors, merged)

    return operator.with_(
        name=f"{operator.name}@split_qkv", function=function, title=f"{operator.title} (q, k, v apart)"
    )


def _with_factors(operator: Operator, space: str, to_space: Callable[..., Any], **changes: Any) -> Operator:
    """The operator on what `to_space(pairs, **options) -> (small tensors, way back)` makes of each factored tensor."""
    own = changes.pop("grid", {})

    def function(vectors: Vectors, *, factors: Pairs, **inputs: Any) -> TaskVector | list[TaskVector]:
        mine = {option: inputs.pop(option) for option in own}
        small: list[TaskVector] = [{} for _ in vectors]
        ways: dict[str, Callable[[Tensor], Tensor]] = {}
        for name in vectors[0]:
            pairs = _pairs(f"{operator.name}@{space}", vectors, factors, name)
            if pairs is None:
                tensors: Sequence[Tensor] = [vector[name].double() for vector in vectors]  # one dtype for global ranks
            else:
                tensors, ways[name] = to_space(pairs, **mine)
            for vector, tensor in zip(small, tensors, strict=True):
                vector[name] = tensor

        def back(merged: Mapping[str, Tensor]) -> TaskVector:
            return {name: ways[name](x.double()) if name in ways else x for name, x in merged.items()}

        merged = operator.function(small, **inputs)
        return [back(each) for each in merged] if operator.per_task else back(merged)

    return operator.with_(
        name=f"{operator.name}@{space}",
        function=function,
        title=f"{operator.title} ({space} space)",
        needs=(*operator.needs, "factors"),
        grid={**operator.grid, **own},
        **changes,
    )


def _pairs(who: str, vectors: Vectors, factors: Pairs, name: str) -> list[tuple[Tensor, Tensor]] | None:
    if len(factors) != len(vectors) or not all(factors):
        raise ValueError(f"{who}: not applicable, it needs the LoRA factors of all {len(vectors)} experts")
    held = [name in each for each in factors]
    if not any(held):
        return None
    if not all(held):
        raise ValueError(f"{who}: not applicable, expert {held.index(False)} has no LoRA factors of {name!r}")
    pairs = [(each[name][0].double(), each[name][1].double()) for each in factors]
    for task, (b, a) in enumerate(pairs):
        if (b.shape[0], a.shape[1]) != tuple(vectors[task][name].shape) or b.shape[1] != a.shape[0]:
            raise ValueError(
                f"{who}: factors {tuple(b.shape)} and {tuple(a.shape)} of expert {task} do not make {name!r} "
                f"{tuple(vectors[task][name].shape)}"
            )
    return pairs


def _core(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    u = svd(torch.cat([b for b, _ in pairs], dim=1)).u
    v = svd(torch.cat([a.T for _, a in pairs], dim=1)).u
    return [(u.T @ b) @ (a @ v) for b, a in pairs], lambda merged: u @ merged @ v.T


def _knots(pairs: list[tuple[Tensor, Tensor]], *, knots: str) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    basis = svd(torch.cat([b for b, _ in pairs], dim=1)).u  # the columns of the wide matrix lie in here
    small = [(basis.T @ b) @ a for b, a in pairs]
    whole = svd(torch.cat(small, dim=1))
    u, v = basis @ whole.u, whole.v.T.tensor_split(len(pairs), dim=1)
    if knots == "sv":
        return [whole.s[:, None] * part for part in v], lambda merged: u @ merged
    return list(v), lambda merged: (u * whole.s) @ merged


def core(operator: Operator) -> Operator:
    """The operator on the lossless small cores of LoRA updates."""
    return _with_factors(operator, "core", _core)


def knots(operator: Operator) -> Operator:
    """The operator on the aligned right factors of LoRA updates."""
    if operator.grid.get("knots"):
        raise ValueError(f"{operator.name}@knots: already in that space")
    return _with_factors(operator, "knots", _knots, grid={"knots": ("sv", "v")})


@dataclass(frozen=True, eq=False)
class Space:
    """A space by name: how an operator enters it, and what to say about it."""

    name: str
    enter: Callable[[Operator], Operator]
    title: str
    formula: str
    paper: str = ""
    citation: str = ""  # why there is no `paper`


SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        Space(
            "fused",
            lambda operator: operator,
            "q, k and v in one matrix, as open_clip stores them",
            "Delta_t as it is",
            citation="no paper: the parameters as they are stored",
        ),
        Space(
            "split_qkv",
            split_qkv,
            "q, k and v as three matrices",
            "[Delta_q; Delta_k; Delta_v] merged one by one",
            citation="no paper: the layout of Hugging Face's CLIP",
        ),
        Space(
            "core",
            core,
            "cores of LoRA updates",
            "merge U^T B_t A_t V, return U M V^T; U, V bases of the stacked B and A",
            "arXiv:2509.17786",
        ),
        Space(
            "knots",
            knots,
            "aligned right factors of LoRA updates",
            "[B_1 A_1 | .. | B_T A_T] = U S [V_1 .. V_T]; merge S V_t (or V_t), return U M (or U S M)",
            "arXiv:2410.19735",
        ),
    )
}


def in_space(operator: Operator, space: str) -> Operator:
    """The operator working in a space of `SPACES`; the space is part of its name, hence of every row it makes."""
    return SPACES[space].enter(operator)
