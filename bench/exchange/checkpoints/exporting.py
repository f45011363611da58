"""Merged models for others: open_clip safetensors, Hugging Face CLIP vision models, and a model card."""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from bench.cards.suites import CLIP_MEAN, CLIP_STD
from bench.errors import DataError, retold
from bench.exchange.checkpoints import names
from bench.exchange.checkpoints.importing import file_hash
from bench.ground import atomic


@dataclass(frozen=True)
class About:
    """What a model card says: how the model came about, and its results as (task, accuracy, images) in [0, 1]."""

    title: str
    architecture: str
    pretrained: str
    recipe: str
    tasks: Sequence[str]
    results: Sequence[tuple[str, float, int]] = ()
    licence: str = "see the licences of the pretrained model and of the data sets"
    notes: Sequence[str] = ()


def export_open_clip(
    params: Mapping[str, Tensor], out: Path, *, about: About | None = None, rest: Mapping[str, Tensor] | None = None
) -> str:
    """Write `visual.*` tensors as safetensors and return the file's sha256.

    With `rest`, the other tensors of the open_clip model (text tower, logit scale), the file is a whole model that
    `open_clip.create_model(architecture, pretrained=out)` loads; without, load it with `strict=False`. The model card
    stands beside it as `<out>.md`.
    """
    tensors = {f"visual.{name}": tensor for name, tensor in params.items()}
    tensors |= {name: tensor for name, tensor in (rest or {}).items() if not name.startswith("visual.")}
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic.whole(out) as part:
            _save_file(tensors, part)
    digest = file_hash(out)
    if about is not None:
        write_whole(out.with_name(out.name + ".md"), model_card(about, {out.name: digest}).encode())
    return digest


def export_hf(
    params: Mapping[str, Tensor],
    out: Path,
    *,
    heads: int = 0,
    quick_gelu: bool = True,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    about: About | None = None,
) -> str:
    """Write a folder that `CLIPVisionModelWithProjection.from_pretrained` loads; returns the weights' sha256.

    Args:
        params: a standard tower in open_clip's names, with `proj`.
        out: a folder that does not exist yet.
        heads: attention heads; 0 takes CLIP's width / 64.
        quick_gelu: OpenAI's activation; False writes plain GELU.
        mean, std: channel statistics of the preprocessing.
    """
    shape = names.shape_of(params, "the model to export")
    if not shape.embed:
        raise DataError("a Hugging Face export needs the image projection `proj`; take it from the pretrained model")
    if not heads and shape.width % 64:
        raise DataError(f"width {shape.width} is not a multiple of 64: say how many attention heads the tower has")
    if out.exists():
        raise DataError(f"{out} exists; name a folder that does not")
    config = _config(shape, heads or shape.width // 64, quick_gelu)
    preprocessor = _preprocessor(shape.image_size, mean, std)
    part = atomic.hidden(out)
    try:
        with _writing(out):
            part.mkdir(parents=True)
            _save_file(names.to_hf(params, shape.layers), part / "model.safetensors")
            digest = file_hash(part / "model.safetensors")
            for name, content in (("config.json", config), ("preprocessor_config.json", preprocessor)):
                (part / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            if about is not None:
                (part / "README.md").write_text(model_card(about, {"model.safetensors": digest}), encoding="utf-8")
            part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return digest


def model_card(about: About, files: Mapping[str, str]) -> str:
    """Markdown: what the model is, how it was made, its results with image counts, and the hash of every file."""
    lines = [f"# {_cell(about.title)}", "", _cell(about.recipe), ""]
    facts = {
        "Architecture": about.architecture,
        "Pretrained weights": about.pretrained,
        "Merged tasks": ", ".join(about.tasks),
        "Licence": about.licence,
    }
    lines += [f"* {name}: {_cell(text)}" for name, text in facts.items()]
    lines += [f"* Note: {_cell(note)}" for note in about.notes]
    if about.results:
        lines += ["", "| task | accuracy | test images |", "|---|---:|---:|"]
        lines += [f"| {_cell(task)} | {100 * value:.2f} | {count:,} |" for task, value, count in about.results]
    lines += ["", "| file | sha256 |", "|---|---|"]
    lines += [f"| {_cell(name)} | `{digest}` |" for name, digest in files.items()]
    return "\n".join(lines) + "\n"


def _config(shape: names.Shape, heads: int, quick_gelu: bool) -> dict[str, Any]:
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "hidden_act": "quick_gelu" if quick_gelu else "gelu",
        "hidden_size": shape.width,
        "image_size": shape.image_size,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": shape.mlp,
        "layer_norm_eps": 1e-5,
        "num_attention_heads": heads,
        "num_channels": 3,
        "num_hidden_layers": shape.layers,
        "patch_size": shape.patch,
        "projection_dim": shape.embed,
    }


def _preprocessor(size: int, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": size, "width": size},
        "size": {"shortest_edge": size},
        "resample": 3,
        "rescale_factor": 1 / 255,
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }


def _cell(text: str) -> str:
    """One line that cannot leave a table cell or start markup of its own."""
    return " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all; DataError when it cannot be written."""
    with _writing(path):
        atomic.write(path, data)


def _writing(path: Path) -> AbstractContextManager[None]:
    text = f"cannot write {path}: {{why}}; free space or name another place"
    return retold(DataError, text, OSError, SafetensorError)


def _save_file(tensors: Mapping[str, Tensor], path: Path) -> None:
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    safetensors.torch.save_file(ready, path, {"format": "pt"})
