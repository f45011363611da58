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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.errors import DataError

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
    found: dict[str, tuple[int, ...]] = {
        "class_embedding": (w,),
        "positional_embedding": (shape.tokens, w),
        "proj": (w, shape.embed),
        "conv1.weight": (w, 3, shape.patch, shape.patch),
        "ln_pre.weight": (w,),
        "ln_pre.bias": (w,),
    }
    for layer in range(shape.layers):
        at = f"transformer.resblocks.{layer}."
        found |= {
            f"{at}ln_1.weight": (w,),
            f"{at}ln_1.bias": (w,),
            f"{at}attn.in_proj_weight": (3 * w, w),
            f"{at}attn.in_proj_bias": (3 * w,),
            f"{at}attn.out_proj.weight": (w, w),
            f"{at}attn.out_proj.bias": (w,),
            f"{at}ln_2.weight": (w,),
            f"{at}ln_2.bias": (w,),
            f"{at}mlp.c_fc.weight": (m, w),
            f"{at}mlp.c_fc.bias": (m,),
            f"{at}mlp.c_proj.weight": (w, m),
            f"{at}mlp.c_proj.bias": (w,),
        }
    return found | {"ln_post.weight": (w,), "ln_post.bias": (w,)}


def shape_of(params: Mapping[str, Tensor], where: str) -> Shape:
    """The shape of a standard tower, every name and tensor shape checked (`proj` may be absent: embed is then 0).

    Raises:
        DataError: a name is missing, unknown, or has another shape than its neighbours say.
    """
    try:
        width = params["class_embedding"].shape[0]
        layers = 1 + max(
            (int(n.split(".")[2]) for n in params if re.match(r"transformer\.resblocks\.\d+\.", n)), default=-1
        )
        tokens, patch = params["positional_embedding"].shape[0], params["conv1.weight"].shape[-1]
        mlp = params["transformer.resblocks.0.mlp.c_fc.bias"].shape[0]
        embed = params["proj"].shape[-1] if "proj" in params else 0
    except (KeyError, IndexError) as error:
        raise DataError(f"{where} is not a CLIP vision transformer: {error} is missing or has no such axis") from error
    shape = Shape(width, layers, patch, tokens, embed, mlp)
    wanted = {name: size for name, size in expected(shape).items() if name in params or name != "proj"}
    compare({n: tuple(p.shape) for n, p in params.items()}, wanted, where)
    return shape


def compare(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], where: str) -> None:
    """`DataError` naming the first difference in names or shapes."""
    problems = [f"{n} is missing" for n in wanted if n not in found]
    problems += [f"{n} is unknown" for n in found if n not in wanted]
    problems += [f"{n} is {found[n]} instead of {wanted[n]}" for n in wanted if n in found and found[n] != wanted[n]]
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


def from_hf(tensors: Mapping[str, Tensor], where: str) -> Params:
    """open_clip's names from Hugging Face's: q, k, v fused, the projection (when there) transposed; the rest dropped.

    The text tower and `position_ids` are dropped; any other unknown vision tensor is an error.
    """
    pattern = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.")
    layers = 1 + max((int(m[1]) for m in map(pattern.match, tensors) if m), default=-1)
    vision = {n for n in tensors if n.startswith(VISION) and not n.endswith("position_ids")}
    found: Params = {}
    try:
        for ours, theirs in _pairs(layers):
            found[ours] = tensors[theirs]
            vision.discard(theirs)
        for layer in range(layers):
            for kind in ("weight", "bias"):
                names = [f"{VISION}encoder.layers.{layer}.self_attn.{part}.{kind}" for part in QKV]
                found[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat([tensors[n] for n in names])
                vision.difference_update(names)
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{where} is not a Hugging Face CLIP vision model: {error} is missing or misshapen") from error
    if vision:
        raise DataError(f"{where} is not a Hugging Face CLIP vision model: {min(vision)} is unknown")
    if PROJECTION in tensors:
        if tensors[PROJECTION].ndim != 2:
            raise DataError(f"{where} is not a Hugging Face CLIP vision model: {PROJECTION} is not a matrix")
        found["proj"] = tensors[PROJECTION].T.contiguous()
    return found


def to_hf(params: Mapping[str, Tensor], layers: int) -> Params:
    """Hugging Face's names from open_clip's; the inverse of `from_hf`."""
    found = {theirs: params[ours].contiguous() for ours, theirs in _pairs(layers)}
    for layer in range(layers):
        for kind in ("weight", "bias"):
            parts = params[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"].chunk(3)
            for name, part in zip(QKV, parts, strict=True):
                found[f"{VISION}encoder.layers.{layer}.self_attn.{name}.{kind}"] = part.contiguous()
    if "proj" in params:
        found[PROJECTION] = params["proj"].T.contiguous()
    return found


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
    found = dict(zip(names, visual, strict=True))
    shape_of(found, where)
    return found
