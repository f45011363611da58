"""Forward-mode differentiation of the hand-written tower, layer by layer.

Every value travels with its derivative along one direction of parameter space: a pair `(x, dx)`, where `dx = None`
stands for zero (the pixels, and parameters that the direction does not name). The rules:

    linear      d(x W^T + b) = dx W^T + x dW^T + db
    layer norm  d(w h + b)   = w (J dx) + dw h + db,   h the normed input, J symmetric: the backward kernel applies it
    softmax     dP = P * (dS - rowsum(P * dS))
    gelu, silu  the backward kernel, fed with dx

The values are ordinary autograd tensors; the derivatives carry no graph (see `Tower.dual` for why that is enough to
train a tangent model). torch.func's own jvp builds the graph of both, which is what makes it 5 times a plain step.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.tower import vit
from methods.tower.layout import Layout

Dual = tuple[Tensor, Tensor | None]
PROJECTION = ("in_proj_weight", "in_proj_bias")


def features(
    layout: Layout, params: Mapping[str, Tensor], tangent: Mapping[str, Tensor], pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Features `[batch, embed]` at `params`, and their derivative along `tangent`, without a graph."""
    return Walk(layout, params, tangent).features(pixels)


def _linear(x: Dual, w: Tensor, b: Tensor | None, dw: Tensor | None, db: Tensor | None) -> Dual:
    """`x w^T + b` and its derivative, the second product accumulated onto the first."""
    value, dvalue = x
    out = F.linear(value, w, b)
    with torch.no_grad():
        if dw is None:
            along = None if dvalue is None else F.linear(dvalue, w)
            return out, plus(along, None if db is None else db.expand_as(out))
        moved = F.linear(value, dw, db)
        if dvalue is not None:
            # Autocast does not reach in-place products, hence the casts; they do nothing in float32.
            flat = dvalue.reshape(-1, dvalue.shape[-1]).to(moved.dtype)
            moved.view(-1, moved.shape[-1]).addmm_(flat, w.to(moved.dtype).T)
        return out, moved


def _split(tangent: Tensor | None, cuts: tuple[int, int]) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if tangent is None else tangent.split(cuts)


def _first(x: Dual) -> Dual:
    return x[0][:, :1], None if x[1] is None else x[1][:, :1]


def plus(*terms: Tensor | None) -> Tensor | None:
    """The sum of derivatives, where None stands for zero."""
    present = [term for term in terms if term is not None]
    return sum(present[1:], start=present[0]) if present else None


class Walk:
    """A way through the tower with the parameters and their tangents at hand."""

    def __init__(self, layout: Layout, params: Mapping[str, Tensor], tangent: Mapping[str, Tensor]) -> None:
        self.layout, self.params, self.tangent = layout, params, tangent

    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels `[batch, 3, side, side]` -> features `[batch, embed]` and their derivative."""
        layout, params, tangent = self.layout, self.params, self.tangent
        x = self.embed(pixels)
        if layout.norm_before:
            x = self.norm(x, "ln_pre")
        for index in range(layout.layers):
            last = index == layout.layers - 1 and layout.pool == "tok"
            x = self.block(x, f"transformer.resblocks.{index}.", first_only=last)
        y, dy = self.pool(x)
        proj, dproj = params["proj"], tangent.get("proj")
        out = y @ proj
        with torch.no_grad():
            moved = plus(dy @ proj if dy is not None else None, y @ dproj if dproj is not None else None)
            return out, torch.zeros_like(out) if moved is None else moved

    def embed(self, pixels: Tensor) -> Dual:
        """Tokens `[batch, 1 + patches, width]`: the class token, then the patches, positions added."""
        cut = vit.patches(self.layout, pixels)
        token, dtoken = self.params["class_embedding"], self.tangent.get("class_embedding")
        rows, moved = self.linear((cut, None), "conv1.weight", "")
        x = torch.cat([token.expand(len(rows), 1, -1).to(rows.dtype), rows], dim=1)
        x = x + self.params["positional_embedding"]
        with torch.no_grad():
            dx = None
            if moved is not None or dtoken is not None:
                moved = torch.zeros_like(rows) if moved is None else moved
                head = torch.zeros_like(token) if dtoken is None else dtoken
                dx = torch.cat([head.expand(len(rows), 1, -1).to(moved.dtype), moved], dim=1)
            dposition = self.tangent.get("positional_embedding")
            return x, plus(dx, None if dposition is None else dposition.expand_as(x))

    def block(self, x: Dual, at: str, *, first_only: bool) -> Dual:
        """One residual block on `[batch, tokens, width]`; `first_only` gives the first token, `[batch, 1, width]`."""
        y = self.norm(x, at + "ln_1")
        mixed = self.first_attention(y, at + "attn.") if first_only else self.attention(y, at + "attn.")
        x = self.add(_first(x) if first_only else x, self.scale(mixed, at + "ls_1.gamma"))
        hidden = self.hidden(self.norm(x, at + "ln_2"), at + "mlp.c_fc.weight", at + "mlp.c_fc.bias")
        y = self.linear(hidden, at + "mlp.c_proj.weight", at + "mlp.c_proj.bias")
        return self.add(x, self.scale(y, at + "ls_2.gamma"))

    def attention(self, y: Dual, at: str) -> Dual:
        """Attention of all tokens to all, with the output projection."""
        whole = self.linear(y, at + "in_proj_weight", at + "in_proj_bias")
        return self.attend(vit.split_heads(self.layout, whole[0]), (whole[1],), at)

    def first_attention(self, y: Dual, at: str) -> Dual:
        """Attention of the first token to all, with the output projection: `[batch, 1, width]`."""
        layout, cuts = self.layout, (self.layout.width, 2 * self.layout.width)
        (w_q, w_kv), (b_q, b_kv) = (self.params[at + name].split(cuts) for name in PROJECTION)
        (dw_q, dw_kv), (db_q, db_kv) = (_split(self.tangent.get(at + name), cuts) for name in PROJECTION)
        query, others = _linear(_first(y), w_q, b_q, dw_q, db_q), _linear(y, w_kv, b_kv, dw_kv, db_kv)
        qkv = *vit.split_heads(layout, query[0]), *vit.split_heads(layout, others[0])
        return self.attend(qkv, (query[1], others[1]), at)

    def attend(self, qkv: tuple[Tensor, ...], derivatives: tuple[Tensor | None, ...], at: str) -> Dual:
        """Softmax attention of queries, keys and values `[batch, heads, tokens, width / heads]`, projected."""
        q, k, v = qkv
        mixed = F.scaled_dot_product_attention(q, k, v)
        with torch.no_grad():
            dmixed = None
            if all(d is not None for d in derivatives):
                # One copy here saves one in each of the seven products below, which want their operands contiguous.
                split = (x for d in derivatives if d is not None for x in vit.split_heads(self.layout, d))
                dq, dk, dv = (x.contiguous() for x in split)
                q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
                scale = q.shape[-1] ** -0.5
                weights = (q @ k.mT).mul_(scale).softmax(dim=-1)
                moved = (dq @ k.mT).add_(q @ dk.mT).mul_(scale).mul_(weights)
                moved -= weights * moved.sum(dim=-1, keepdim=True)
                dmixed = (moved @ v).add_(weights @ dv).transpose(1, 2).flatten(2)
        return self.linear((mixed.transpose(1, 2).flatten(2), dmixed), at + "out_proj.weight", at + "out_proj.bias")

    def linear(self, x: Dual, weight: str, bias: str) -> Dual:
        """`[..., in]` -> `[..., out]` by the parameters of these names; an empty `bias` is none."""
        w, dw = self.params[weight].flatten(1), self.tangent.get(weight)
        b = self.params[bias] if bias else None
        return _linear(x, w, b, None if dw is None else dw.flatten(1), self.tangent.get(bias))

    def hidden(self, x: Dual, weight: str, bias: str) -> Dual:
        """The mlp's inside: a linear layer and the activation."""
        return self.activate(self.linear(x, weight, bias))

    def norm(self, x: Dual, name: str) -> Dual:
        """The layer norm `name` over the last axis of `[..., width]`."""
        value, dvalue = x
        w, b = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        dw, db = self.tangent.get(f"{name}.weight"), self.tangent.get(f"{name}.bias")
        shape, eps = [value.shape[-1]], self.layout.eps
        out, mean, inverse = torch.native_layer_norm(value, shape, w, b, eps)
        with torch.no_grad():
            moved = None
            if dvalue is not None:
                # The Jacobian is symmetric: the kernel that pulls gradients back also pushes tangents forward.
                # Under autocast a tangent may still be half precision where the value is float32 already.
                moved = torch.ops.aten.native_layer_norm_backward(
                    dvalue.contiguous().to(value.dtype), value, shape, mean, inverse, None, None, [True, False, False]
                )[0].mul_(w)
            if dw is not None:
                normed = F.layer_norm(value, shape, eps=eps)
                moved = normed.mul_(dw) if moved is None else moved.addcmul_(normed, dw)
            if db is not None:
                moved = db.expand_as(out) if moved is None else moved.add_(db)
            return out, moved

    def activate(self, x: Dual) -> Dual:
        """The layout's activation, entry by entry."""
        value, dvalue = x
        out = vit.activate(self.layout, value)
        with torch.no_grad():
            if dvalue is None:
                return out, None
            if self.layout.activation == "quick_gelu":
                return out, torch.ops.aten.silu_backward(dvalue, value * vit.QUICK)
            tanh = "tanh" if self.layout.activation == "gelu_tanh" else "none"
            return out, torch.ops.aten.gelu_backward(dvalue, value, approximate=tanh)

    def scale(self, x: Dual, name: str) -> Dual:
        """`[..., width]` times the layer scale `name`, in towers that have it."""
        if not self.layout.layer_scale:
            return x
        (value, dvalue), gamma, dgamma = x, self.params[name], self.tangent.get(name)
        out = value * gamma
        with torch.no_grad():
            along = None if dvalue is None else dvalue * gamma
            return out, plus(along, None if dgamma is None else value * dgamma)

    def add(self, x: Dual, y: Dual) -> Dual:
        """The sum of two values of one shape."""
        out = x[0] + y[0]
        with torch.no_grad():
            return out, plus(x[1], y[1])

    def pool(self, x: Dual) -> Dual:
        """`[batch, tokens, width]` -> `[batch, width]`: the class token or the mean of the patches, normed."""
        layout, (value, dvalue) = self.layout, x
        if layout.pool == "tok":
            return self.norm((value[:, 0], None if dvalue is None else dvalue[:, 0]), "ln_post")
        tokens: Dual = value[:, 1:], None if dvalue is None else dvalue[:, 1:]
        if not layout.norm_after_pool:
            tokens = self.norm(tokens, "ln_post")
        out = tokens[0].mean(dim=1)
        with torch.no_grad():
            moved = None if tokens[1] is None else tokens[1].mean(dim=1)
        return (out, moved) if not layout.norm_after_pool else self.norm((out, moved), "ln_post")
