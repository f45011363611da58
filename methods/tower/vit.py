"""open_clip's standard `VisionTransformer` written out as a function of its parameters.

    x_0   = [class; patches W_conv^T] + positions,   optionally layer-normed
    x    <- x + attention(norm_1(x)),   x <- x + mlp(norm_2(x))         in every block
    out   = norm_post(pool(x)) proj

Where the class token is pooled, the last block computes its queries and its mlp for that token only: nothing reads the
others. At two layers that is 39 % of the work.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from methods.tower.layout import Layout

# x * sigmoid(1.702 x) = silu(1.702 x) / 1.702, and silu is one fused kernel in both directions.
QUICK = 1.702


def features(layout: Layout, params: Mapping[str, Tensor], pixels: Tensor, *, checkpointing: bool = False) -> Tensor:
    """Features `[batch, embed]` of `pixels` `[batch, 3, height, width]` at `params`.

    `checkpointing` keeps only the input of each block for the backward pass and computes the rest again there.
    """
    rows = F.linear(patches(layout, pixels), params["conv1.weight"].flatten(1))
    x = torch.cat([params["class_embedding"].expand(len(rows), 1, -1).to(rows.dtype), rows], dim=1)
    x = x + params["positional_embedding"]
    if layout.norm_before:
        x = norm(layout, x, params, "ln_pre")
    for index in range(layout.layers):
        last = index == layout.layers - 1 and layout.pool == "tok"
        at = f"transformer.resblocks.{index}."
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, layout, x, params, at, first_only=last, use_reentrant=False, preserve_rng_state=False)
        else:
            x = block(layout, x, params, at, first_only=last)
    return pool(layout, x, params) @ params["proj"]


def patches(layout: Layout, pixels: Tensor) -> Tensor:
    """Cut `[batch, 3, height, width]` into `[batch, patches, 3 * patch height * patch width]`.

    A convolution whose stride is its kernel is this and one matrix product.
    """
    (height, width), (ph, pw) = layout.image, layout.patch
    if pixels.shape[1:] != (3, height, width):
        raise ValueError(f"the tower reads images [batch, 3, {height}, {width}], not {list(pixels.shape)}; resize them")
    grid = pixels.reshape(-1, 3, height // ph, ph, width // pw, pw)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(len(pixels), -1, 3 * ph * pw)


def norm(layout: Layout, x: Tensor, params: Mapping[str, Tensor], name: str) -> Tensor:
    """The layer norm `name` over the last axis of `[..., width]`."""
    return F.layer_norm(x, (x.shape[-1],), params[f"{name}.weight"], params[f"{name}.bias"], layout.eps)


def block(layout: Layout, x: Tensor, params: Mapping[str, Tensor], at: str, *, first_only: bool) -> Tensor:
    """One residual block; `first_only` returns `[batch, 1, width]`, the first token's row of the whole answer."""
    y = norm(layout, x, params, at + "ln_1")
    weight, bias = params[at + "attn.in_proj_weight"], params[at + "attn.in_proj_bias"]
    if first_only:
        sizes = (layout.width, 2 * layout.width)
        (w_q, w_kv), (b_q, b_kv) = weight.split(sizes), bias.split(sizes)
        (q,), (k, v) = split_heads(layout, F.linear(y[:, :1], w_q, b_q)), split_heads(layout, F.linear(y, w_kv, b_kv))
        x = x[:, :1]
    else:
        q, k, v = split_heads(layout, F.linear(y, weight, bias))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    mixed = F.linear(mixed, params[at + "attn.out_proj.weight"], params[at + "attn.out_proj.bias"])
    x = x + (mixed * params[at + "ls_1.gamma"] if layout.layer_scale else mixed)

    y = norm(layout, x, params, at + "ln_2")
    hidden = activate(layout, F.linear(y, params[at + "mlp.c_fc.weight"], params[at + "mlp.c_fc.bias"]))
    y = F.linear(hidden, params[at + "mlp.c_proj.weight"], params[at + "mlp.c_proj.bias"])
    return x + (y * params[at + "ls_2.gamma"] if layout.layer_scale else y)


def split_heads(layout: Layout, x: Tensor) -> tuple[Tensor, ...]:
    """`[batch, tokens, n * width]` into n tensors `[batch, heads, tokens, width / heads]`."""
    return x.unflatten(2, (-1, layout.heads, layout.width // layout.heads)).permute(2, 0, 3, 1, 4).unbind(0)


def activate(layout: Layout, x: Tensor) -> Tensor:
    """The layout's activation (GELU, its tanh form, or OpenAI's x sigmoid(1.702 x)), entry by entry."""
    if layout.activation == "quick_gelu":
        return F.silu(x * QUICK) / QUICK
    return F.gelu(x, approximate="tanh" if layout.activation == "gelu_tanh" else "none")


def pool(layout: Layout, x: Tensor, params: Mapping[str, Tensor]) -> Tensor:
    """`[batch, tokens, width]` to the normed `[batch, width]`."""
    if layout.pool == "tok":  # the norm acts on each token alone, so its place does not matter
        return norm(layout, x[:, 0], params, "ln_post")
    if layout.norm_after_pool:
        return norm(layout, x[:, 1:].mean(dim=1), params, "ln_post")
    return norm(layout, x[:, 1:], params, "ln_post").mean(dim=1)
