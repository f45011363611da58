"""The tower at weights that stay as they are, for many batches of images and without gradients: `Tower.frozen`.

Three things are cheaper when nothing will be differentiated. Exact arithmetic would give the same numbers; rounding
differs.

* oneDNN multiplies by weights that were laid out for it once (float32 on a CPU), faster than the products of training.
* Its product applies the GELU that follows while the numbers are still in the cache.
* The last block, which reads the first token alone, makes no keys and values. With the normed tokens y_t and, for each
  head, that token's query q, the shares of attention p_t and the rows of the weights that are the head's,

      softmax_t(q (W_k y_t + b_k)) = softmax_t((W_k^T q) y_t)       b_k adds the same to every token
      sum_t p_t (W_v y_t + b_v)    = W_v (sum_t p_t y_t) + b_v      the shares sum to one

  so W_k and W_v meet one vector an image and head instead of every token: at two layers an eighth of all work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.tower.dual import PROJECTION, Dual, Walk, plus
from methods.tower.layout import Layout

PACKS = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
"""Whether this torch can lay weights out for oneDNN. Its own compiler uses these operations; they are not public."""

WEIGHTS = ("conv1.weight", "in_proj_weight", "out_proj.weight", "c_fc.weight", "c_proj.weight")
FUSED = {"gelu": "none", "gelu_tanh": "tanh"}
"""Activations that oneDNN applies to a product, and what it calls their approximation."""


class Packed(Walk):
    """A way through the tower whose weights are laid out once; `features` may then be called any number of times.

    Parameters and tangents must not change meanwhile, for their copies here would not.
    """

    def __init__(self, layout: Layout, params: Mapping[str, Tensor], tangent: Mapping[str, Tensor]) -> None:
        super().__init__(layout, params, tangent)
        self._weights = {name: _pack(p) for name, p in params.items() if name.endswith(WEIGHTS)}
        self._moves = {name: _pack(t) for name, t in tangent.items() if name.endswith(WEIGHTS)}

    def linear(self, x: Dual, weight: str, bias: str) -> Dual:
        (value, dvalue), w, b = x, self._weights[weight], self.params[bias] if bias else None
        dw, db = self._moves.get(weight), self.tangent.get(bias)
        out = _linear(value, w, b)
        if dw is not None:
            moved = _linear(value, dw, db)
            return out, moved if dvalue is None else _linear_onto(moved, dvalue, w)
        if dvalue is not None:
            return out, _linear(dvalue, w, db)
        return out, None if db is None else db.expand_as(out)

    def hidden(self, x: Dual, weight: str, bias: str) -> Dual:
        (value, dvalue), w = x, self._weights[weight]
        still = dvalue is None and weight not in self.tangent and bias not in self.tangent
        if still and w.is_mkldnn and self.layout.activation in FUSED:
            how = FUSED[self.layout.activation]
            return torch.ops.mkldnn._linear_pointwise(value, w, self.params[bias], "gelu", [], how), None
        return super().hidden(x, weight, bias)

    def first_attention(self, y: Dual, at: str) -> Dual:
        heads, size = self.layout.heads, self.layout.width // self.layout.heads
        weight, bias = (self._thirds(at + name) for name in PROJECTION)
        w_q, w_k, w_v = (_each(lambda w: w.view(heads, size, -1), third) for third in weight)
        b_q, _, b_v = (_each(lambda b: b.view(heads, 1, size), third) for third in bias)
        first = _each(lambda x: x[:, 0].expand(heads, -1, -1), y)

        q = _sum(_product(first, _each(_turned, w_q)), b_q)  # [heads, batch, size]
        seen = _each(lambda u: u.transpose(0, 1) * size**-0.5, _product(q, w_k))  # [batch, heads, width]
        mean = _product(_softmax(_product(seen, _each(_turned, y))), y)
        mixed = _sum(_product(_each(lambda z: z.transpose(0, 1), mean), _each(_turned, w_v)), b_v)
        return self.linear(
            _each(lambda o: o.transpose(0, 1).flatten(1)[:, None], mixed), at + "out_proj.weight", at + "out_proj.bias"
        )

    def _thirds(self, name: str) -> list[Dual]:
        """The parts of queries, keys and values of a joint projection."""
        move = self.tangent.get(name)
        return list(zip(self.params[name].chunk(3), (None,) * 3 if move is None else move.chunk(3), strict=True))


def _pack(weight: Tensor) -> Tensor:
    """A matrix `[out, in]` of any shape `[out, ...]`, laid out for oneDNN where that is possible."""
    matrix = weight.flatten(1)
    packs = PACKS and weight.device.type == "cpu" and weight.dtype == torch.float32
    return torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous()) if packs else matrix


def _linear(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, w, b, "none", [], "") if w.is_mkldnn else F.linear(x, w, b)


def _linear_onto(out: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """`out + x w^T`."""
    return torch.ops.mkldnn._linear_pointwise.binary(x, out, w, None, "add") if w.is_mkldnn else out + F.linear(x, w)


def _each(what: Callable[[Tensor], Tensor], x: Dual) -> Dual:
    """A linear map of a value and its derivative."""
    return what(x[0]), None if x[1] is None else what(x[1])


def _turned(x: Tensor) -> Tensor:
    return x.mT


def _product(x: Dual, y: Dual) -> Dual:
    (a, da), (b, db) = x, y
    return a @ b, plus(None if da is None else da @ b, None if db is None else a @ db)


def _sum(x: Dual, y: Dual) -> Dual:
    out = x[0] + y[0]
    return out, x[1] if y[1] is None else plus(x[1], y[1].expand_as(out))


def _softmax(x: Dual) -> Dual:
    shares, moved = x[0].softmax(dim=-1), x[1]
    if moved is None:
        return shares, None
    moved = moved * shares
    return shares, moved - shares * moved.sum(dim=-1, keepdim=True)
