"""A tiny open_clip model and files as the reference code and the hub store experts, for tests."""

import math
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def clip(seed: int = 0, *, quick_gelu: bool = True, heads: int = 2) -> Any:
    """A whole open_clip CLIP: ViT of width 128, 2 layers, patch 8, 24 px, embedding 48, and a small text tower."""
    import open_clip

    torch.manual_seed(seed)
    vision = {"image_size": 24, "layers": 2, "width": 128, "head_width": 128 // heads, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 60, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(48, vision, text, quick_gelu=quick_gelu)
    with torch.no_grad():  # biases and norms start at constants, which would hide a mixed-up name
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def visual(model: Any) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.visual.named_parameters()}


def hugging_face_forward(tensors: dict[str, Tensor], images: Tensor, heads: int) -> Tensor:
    """CLIPVisionModelWithProjection written out from its definition: separate q, k, v, QuickGELU, class token."""
    v = "vision_model."

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], tensors[f"{v}{name}.weight"], tensors[f"{v}{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{v}{name}.weight"].T + tensors[f"{v}{name}.bias"]

    weight = tensors[f"{v}embeddings.patch_embedding.weight"]
    patches = functional.conv2d(images, weight, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
    token = tensors[f"{v}embeddings.class_embedding"].expand(len(images), 1, -1)
    x = torch.cat([token, patches], dim=1) + tensors[f"{v}embeddings.position_embedding.weight"]
    x = norm(x, "pre_layrnorm")
    for layer in range(2):
        at = f"encoder.layers.{layer}."
        y = norm(x, at + "layer_norm1")
        q, k, value = (
            linear(y, f"{at}self_attn.{p}_proj").unflatten(-1, (heads, -1)).transpose(1, 2) for p in ("q", "k", "v")
        )
        mixed = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1) @ value
        x = x + linear(mixed.transpose(1, 2).flatten(2), at + "self_attn.out_proj")
        y = linear(norm(x, at + "layer_norm2"), at + "mlp.fc1")
        x = x + linear(y * torch.sigmoid(1.702 * y), at + "mlp.fc2")
    return norm(x[:, 0], "post_layernorm") @ tensors["visual_projection.weight"].T


class ImageEncoder(nn.Module):
    """Stands in for the reference code's class of this name: the whole CLIP without its text transformer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        from open_clip.transform import image_transform

        self.model = model
        self.train_preprocess = image_transform(24, is_train=True)
        self.val_preprocess = image_transform(24, is_train=False)
        self.cache_dir = None
        if hasattr(model, "transformer"):
            del model.transformer


class ClassificationHead(nn.Linear):
    """Stands in for the reference code's head."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__(weights.shape[1], weights.shape[0])
        self.normalize = True


@contextmanager
def reference_modules() -> Iterator[None]:
    """While saving, let the classes above live in `src.modeling`; afterwards no such module exists."""
    package, modeling = types.ModuleType("src"), types.ModuleType("src.modeling")
    before = {}
    for kind in (ImageEncoder, ClassificationHead):
        before[kind] = kind.__module__
        kind.__module__ = "src.modeling"
        setattr(modeling, kind.__name__, kind)
    sys.modules |= {"src": package, "src.modeling": modeling}
    try:
        yield
    finally:
        del sys.modules["src"], sys.modules["src.modeling"]
        for kind, module in before.items():
            kind.__module__ = module


def save_module(model: Any, path: Path) -> None:
    """`torch.save(ImageEncoder)`, as TTA, task_vectors and OrthoReg release non-linear experts."""
    with reference_modules():
        torch.save(ImageEncoder(model), path)


def save_linearised(base: Any, tuned: Any, path: Path) -> None:
    """The state dict of TTA's LinearizedImageEncoder: numbered parameters, twice, and the model's name."""
    state: dict[str, Any] = {}
    for kind, model in (("params", tuned), ("params0", base)):
        parameters = [p.detach().clone() for p in ImageEncoder(model).parameters()]
        state |= {f"model.{kind}.{i}": p for i, p in enumerate(parameters)}
    state["model_name"] = "ViT-B-32"
    torch.save(state, path)
