"""Recognise open_clip's standard `VisionTransformer` without importing open_clip."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

# Every parameter of one residual block; LayerScale adds its own two.
BLOCK = (
    "ln_1.weight",
    "ln_1.bias",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj.weight",
    "attn.out_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)
BLOCK_SCALES = ("ls_1.gamma", "ls_2.gamma")


@dataclass(frozen=True)
class Layout:
    """What the hand-written tower must know that the parameters do not say.

    `image` is height and width in pixels, `patch` likewise; `pool` is `tok` or `avg`; `activation` is `gelu` (exact),
    `gelu_tanh` or `quick_gelu`; `norm_after_pool` puts the last layer norm behind the pooling.
    """

    image: tuple[int, int]
    patch: tuple[int, int]
    width: int
    heads: int
    layers: int
    activation: str
    eps: float
    pool: str
    norm_before: bool
    norm_after_pool: bool
    layer_scale: bool


def recognise(visual: nn.Module) -> Layout | None:
    """The layout of a standard ViT, or None for anything that differs in the least (then the reference path serves).

    The test is strict on purpose: class names, the settings of every layer, and finally the exact set of parameter
    names, so a new option of open_clip can make a tower slow but never silently wrong.
    """
    if type(visual).__name__ != "VisionTransformer" or not hasattr(visual, "transformer"):
        return None
    try:
        return _layout(visual)
    except (AttributeError, IndexError, TypeError, _Unknown):
        return None


class _Unknown(Exception):
    """Raised at the first thing that the hand-written tower does not implement."""


def _require(condition: bool) -> None:
    if not condition:
        raise _Unknown


def _layout(visual) -> Layout:  # type: ignore[no-untyped-def]  # attributes of a class we must not import
    conv, blocks = visual.conv1, list(visual.transformer.resblocks)
    _require(type(conv) is nn.Conv2d and conv.bias is None and conv.in_channels == 3 and conv.groups == 1)
    _require(conv.stride == conv.kernel_size and conv.padding == (0, 0) and conv.dilation == (1, 1))
    _require(visual.attn_pool is None and visual.pool_type in ("tok", "avg"))
    _require(isinstance(visual.patch_dropout, nn.Identity) and len(blocks) > 0)
    _require(all(size % patch == 0 for size, patch in zip(visual.image_size, conv.kernel_size, strict=True)))
    _require(bool(visual.transformer.batch_first))

    first = blocks[0]
    activation, heads, eps = _activation(first.mlp.gelu), first.attn.num_heads, first.ln_1.eps
    layer_scale = not isinstance(first.ls_1, nn.Identity)
    for block in blocks:
        attention = block.attn
        _require(type(block).__name__ == "ResidualAttentionBlock" and type(attention) is nn.MultiheadAttention)
        _require(attention.batch_first and attention.dropout == 0.0 and not attention.add_zero_attn)
        _require(attention.bias_k is None and attention.num_heads == heads)
        _require([name for name, _ in block.mlp.named_children()] == ["c_fc", "gelu", "c_proj"])
        _require(_activation(block.mlp.gelu) == activation)

    norm_before = not isinstance(visual.ln_pre, nn.Identity)
    norms = [visual.ln_post, *(n for b in blocks for n in (b.ln_1, b.ln_2)), *([visual.ln_pre] if norm_before else [])]
    _require(all(isinstance(n, nn.LayerNorm) and n.eps == eps for n in norms))

    names = {"conv1.weight", "class_embedding", "positional_embedding", "ln_post.weight", "ln_post.bias", "proj"}
    if norm_before:
        names |= {"ln_pre.weight", "ln_pre.bias"}
    per_block = BLOCK + (BLOCK_SCALES if layer_scale else ())
    names |= {f"transformer.resblocks.{i}.{name}" for i in range(len(blocks)) for name in per_block}
    _require({name for name, _ in visual.named_parameters()} == names)
    _require(not list(visual.named_buffers()))

    return Layout(
        image=tuple(visual.image_size),
        patch=tuple(conv.kernel_size),
        width=conv.out_channels,
        heads=heads,
        layers=len(blocks),
        activation=activation,
        eps=eps,
        pool=visual.pool_type,
        norm_before=norm_before,
        norm_after_pool=bool(visual.final_ln_after_pool),
        layer_scale=layer_scale,
    )


def _activation(module: nn.Module) -> str:
    if type(module) is nn.GELU:
        return {"none": "gelu", "tanh": "gelu_tanh"}[module.approximate]
    _require(type(module).__name__ == "QuickGELU" and not list(module.parameters()))
    return "quick_gelu"
