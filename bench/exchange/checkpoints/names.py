"""Names of image-tower parameters: open_clip's, Hugging Face's CLIP, and the bare numbers of linearised checkpoints.

Shapes, for width W, patch P, tokens N + 1, embedding E, MLP width M (q, k, v rows of `in_proj` in this order):

| open_clip (no `visual.` prefix) | Hugging Face | shape |
|---|---|---|
| class_embedding | vision_model.embeddings.class_embedding | W |
| positional_embedding | vision_model.embeddings.position_embedding.weight | N + 1, W |
| conv1.weight | vision_model.embeddings.patch_embedding.weight | W, 3, P, P |
| ln_pre.* | vision_model.pre_layrnorm.* | W |
| transformer.resblocks.L.attn.in_proj_weight, _bias | ...layers.L.self_attn.{q,k,v}_proj.* | 3 W, W; 3 W |
| transformer.resblocks.L.attn.out_proj.* | ...layers.L.self_attn.out_proj.* | W, W; W |
| transformer.resblocks.L.{ln_1, ln_2}.* | ...layers.L.{layer_norm1, layer_norm2}.* | W |
| transformer.resblocks.L.mlp.{c_fc, c_proj}.* | ...layers.L.mlp.{fc1, fc2}.* | M, W; W, M |
| ln_post.* | vision_model.post_layernorm.* | W |
| proj | visual_projection.weight, transposed | W, E; E, W |
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.errors import DataError, retold

Params = dict[str, Tensor]
VISION = "vision_model."
PROJECTION = "visual_projection.weight"
QKV = ("q_proj", "k_proj", "v_proj")
_EMBEDDINGS = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
_NORMS = {"ln_pre": "vision_model.pre_layrnorm", "ln_post": "vision_model.post_layernorm"}
_BLOCK = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
TEXT_FIRST = ("positional_embedding", "text_projection", "logit_scale")
TEXT_LAST = ("token_embedding.weight", "ln_final.weight", "ln_final.bias")


@dataclass(frozen=True)
class Shape:
    """A standard CLIP vision transformer: everything its parameters say about it (the number of heads is not among)."""

    width: int
    layers: int
    patch: int
    tokens: int
    embed: int
    mlp: int

    @property
    def image_size(self) -> int:
        """Side of the square input image."""
        return self.patch * math.isqrt(self.tokens - 1)


def expected(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all parameters, in the order of open_clip's `visual.named_parameters()`."""
    w, m = shape.width, shape.mlp
    shapes: dict[str, tuple[int, ...]] = {
        "class_embedding": (w,),
        "positional_embedding": (shape.tokens, w),
        "proj": (w, shape.embed),
        "conv1.weight": (w, 3, shape.patch, shape.patch),
    }
    block = {
        "ln_1.": (w,),
        "attn.in_proj_": (3 * w, w),
        "attn.out_proj.": (w, w),
        "ln_2.": (w,),
        "mlp.c_fc.": (m, w),
        "mlp.c_proj.": (w, m),
    }
    blocks = {f"transformer.resblocks.{i}.{name}": size for i in range(shape.layers) for name, size in block.items()}
    for name, size in {"ln_pre.": (w,), **blocks, "ln_post.": (w,)}.items():
        shapes |= {f"{name}weight": size, f"{name}bias": size[:1]}
    return shapes


def shape_of(params: Mapping[str, Tensor], where: str) -> Shape:
    """The shape of a standard tower, every name and tensor shape checked (`proj` may be absent: embed is then 0).

    Raises:
        DataError: a name is missing, unknown, or has another shape than its neighbours say.
    """
    text = f"{where} is not a CLIP vision transformer: {{why}} is missing or has no such axis"
    with retold(DataError, text, KeyError, IndexError):
        width = params["class_embedding"].shape[0]
        layers = _layers(r"transformer\.resblocks\.(\d+)\.", params)
        tokens, patch = params["positional_embedding"].shape[0], params["conv1.weight"].shape[-1]
        mlp = params["transformer.resblocks.0.mlp.c_fc.bias"].shape[0]
        embed = params["proj"].shape[-1] if "proj" in params else 0
    shape = Shape(width, layers, patch, tokens, embed, mlp)
    wanted = {name: size for name, size in expected(shape).items() if name in params or name != "proj"}
    compare({n: tuple(p.shape) for n, p in params.items()}, wanted, where)
    return shape


def _layers(pattern: str, names: Iterable[str]) -> int:
    """How many layers names speak of; the pattern's group is the number of a layer, from 0."""
    return 1 + max((int(match[1]) for name in names if (match := re.match(pattern, name))), default=-1)


def compare(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], where: str) -> None:
    """`DataError` naming the first difference in names or shapes."""
    problems = [f"{n} is missing" for n in wanted if n not in shapes]
    problems += [f"{n} is unknown" for n in shapes if n not in wanted]
    problems += [f"{n} is {shapes[n]} instead of {wanted[n]}" for n in wanted if shapes.get(n, wanted[n]) != wanted[n]]
    if problems:
        raise DataError(f"{where} has another architecture: {len(problems)} difference(s), first {problems[0]}")


def _pairs(layers: int) -> Iterator[tuple[str, str]]:
    """(open_clip name, Hugging Face name) of everything that is only renamed."""
    yield from _EMBEDDINGS.items()
    for ours, theirs in _NORMS.items():
        for kind in ("weight", "bias"):
            yield f"{ours}.{kind}", f"{theirs}.{kind}"
    for layer in range(layers):
        for ours, theirs in _BLOCK.items():
            for kind in ("weight", "bias"):
                at = f"{VISION}encoder.layers.{layer}."
                yield f"transformer.resblocks.{layer}.{ours}.{kind}", f"{at}{theirs}.{kind}"


def _fused(layers: int) -> Iterator[tuple[str, list[str]]]:
    """(open_clip name, Hugging Face names of q, k and v) of everything that is one tensor here and three there."""
    for layer in range(layers):
        for kind in ("weight", "bias"):
            parts = [f"{VISION}encoder.layers.{layer}.self_attn.{part}.{kind}" for part in QKV]
            yield f"transformer.resblocks.{layer}.attn.in_proj_{kind}", parts


def from_hf(tensors: Mapping[str, Tensor], where: str) -> Params:
    """open_clip's names from Hugging Face's: q, k, v fused, the projection (when there) transposed; the rest dropped.

    The text tower and `position_ids` are dropped; any other unknown vision tensor is an error.
    """
    layers = _layers(r"vision_model\.encoder\.layers\.(\d+)\.", tensors)
    unread = {n for n in tensors if n.startswith(VISION) and not n.endswith("position_ids")}
    wrong = f"{where} is not a Hugging Face CLIP vision model"
    params: Params = {}
    with retold(DataError, f"{wrong}: {{why}} is missing or misshapen", KeyError, RuntimeError):
        for ours, theirs in _pairs(layers):
            params[ours] = tensors[theirs]
            unread.discard(theirs)
        for ours, parts in _fused(layers):
            params[ours] = torch.cat([tensors[name] for name in parts])
            unread.difference_update(parts)
    if unread:
        raise DataError(f"{wrong}: {min(unread)} is unknown")
    if PROJECTION in tensors:
        if tensors[PROJECTION].ndim != 2:
            raise DataError(f"{wrong}: {PROJECTION} is not a matrix")
        params["proj"] = tensors[PROJECTION].T.contiguous()
    return params


def to_hf(params: Mapping[str, Tensor], layers: int) -> Params:
    """Hugging Face's names from open_clip's; the inverse of `from_hf`."""
    tensors = {theirs: params[ours].contiguous() for ours, theirs in _pairs(layers)}
    for ours, parts in _fused(layers):
        tensors |= {n: part.contiguous() for n, part in zip(parts, params[ours].chunk(3), strict=True)}
    if "proj" in params:
        tensors[PROJECTION] = params["proj"].T.contiguous()
    return tensors


def from_numbers(tensors: Mapping[int, Tensor], where: str) -> Params:
    """Names of a linearised encoder's numbered parameters: the module order of open_clip's CLIP without transformer.

    Order: `TEXT_FIRST`, the image tower as in `expected`, `TEXT_LAST`. Every shape is checked, so a file in another
    order is refused instead of misread.
    """
    ordered = [tensors[i] for i in range(len(tensors)) if i in tensors]
    visual = ordered[len(TEXT_FIRST) : -len(TEXT_LAST)]
    layers, left = divmod(len(visual) - 8, 12)
    if len(ordered) != len(tensors) or left or layers < 1:
        raise DataError(f"{where} has {len(tensors)} numbered parameters, which is not a linearised CLIP image encoder")
    names = list(expected(Shape(1, layers, 1, 2, 1, 1)))
    params = dict(zip(names, visual, strict=True))
    shape_of(params, where)
    return params
