"""Backbones: open_clip image towers with their pretrained weights, and the zero-shot heads made by the text tower.

The only home of open_clip. The text tower makes the heads that are missing from the cache and is dropped at once.
"""

import hashlib
import logging
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from bench.cards import suites
from bench.cards.datasets import DatasetCard
from bench.cards.suites import ASSETS, BackboneCard
from bench.errors import DataError, retold
from bench.ground import atomic
from bench.pixels import images
from bench.pixels.sources.decode import alone
from bench.work.weights import has_weights, weights_file
from methods.tower import Tower

HEAD_VERSION = 1


class Backbone:
    """An image tower as a function of its parameters, the pretrained parameters, and heads of some datasets.

    `pretrained` maps open_clip's visual parameter names (no `visual.` prefix) to float32 tensors on `device`. `heads`
    maps dataset names to zero-shot classifiers [classes, embed]: rows of length exp(logit_scale).
    """

    def __init__(
        self,
        card: BackboneCard,
        datasets: Iterable[DatasetCard],
        *,
        device: str = "cpu",
        fast: bool = True,
        checkpointing: bool = False,
        compiled: bool = False,
        model: Any = None,
    ) -> None:
        self.card = card
        self.device = torch.device(device)
        given, model = model, model or _create(card)
        self.sha256 = digest(model)
        """Of all weights, text tower included: what heads are cached under, and what records name."""
        if given is None and not card.sha256:
            _same_as_before(card, self.sha256)
        self.heads = {d.name: _head(model, self.sha256, card, d, self.device).to(self.device) for d in datasets}
        visual = model.visual.to(self.device).eval().requires_grad_(False)
        self.tower = Tower(visual, fast=fast, checkpointing=checkpointing, compiled=compiled)
        self.pretrained: dict[str, Tensor] = {name: p.detach() for name, p in visual.named_parameters()}
        self.mean = torch.tensor(card.mean, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(card.std, device=self.device).view(1, 3, 1, 1)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [n, 3, h, w] on any device -> normalised float32 on the backbone's."""
        return images.normalise(pixels.to(self.device, non_blocking=True), self.mean, self.std)


def load(name: str, datasets: Iterable[DatasetCard], **how: Any) -> Backbone:
    """The backbone `name` with pretrained weights and heads, `how` as `Backbone` takes it.

    DataError says how to get weights that are not here.
    """
    return Backbone(suites.backbone(name), datasets, **how)


def untrained(card: BackboneCard, **how: Any) -> Backbone:
    """The backbone with random weights and no heads, for measurements of time and memory."""
    import open_clip

    logging.disable(logging.WARNING)  # that the weights are random is what was asked for
    try:
        model = open_clip.create_model(card.architecture, precision="fp32", load_weights=False)
    finally:
        logging.disable(logging.NOTSET)
    return Backbone(card, (), model=model, **how)


def _create(card: BackboneCard) -> Any:
    """The whole open_clip model, in float32, weights loaded and verified."""
    import open_clip

    if card.weights == "bundled":
        from bench.pixels.mini8 import assets

        path = ASSETS / f"{card.name}.safetensors"
        verify_file(path, card.sha256, "reinstall bench or run `git checkout` on it")
        open_clip.add_model_config(ASSETS / f"{card.name}.json")
        model = open_clip.CLIP(**open_clip.get_model_config(card.architecture))
        model.load_state_dict(assets.load_mini())
        return model
    own = weights_file(card)
    if own.is_file():
        verify_file(own, card.sha256, "put the released file there again")
    if not has_weights(card):  # before open_clip tries for a minute and tells of every retry
        raise DataError(
            f"weights {card.weights!r} of {card.name} are not here and the hub cannot be reached; run `hf download "
            f"{card.hub}` with network access, or put the file at {own}"
        )
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    released = open_clip.get_pretrained_cfg(card.architecture, card.weights).get("quick_gelu")
    if released is not None and bool(released) != bool(suites.architecture(card.architecture).get("quick_gelu")):
        # open_clip only warns, and about a local file says nothing: the wrong activation loses points in silence.
        other = card.architecture.removesuffix("-quickgelu") + ("-quickgelu" if released else "")
        raise DataError(f"{card.name}: weights {card.weights!r} want the other activation; use {other}/{card.weights}")
    remedy = f"fetch them once with network access, or put the file at {own}"
    text = f"weights {card.weights!r} of {card.name} cannot be loaded ({{why}}); {remedy}"
    with retold(DataError, text, RuntimeError, OSError, SafetensorError, Warning), warnings.catch_warnings():
        # A GELU tower with QuickGELU weights loses points in silence: make open_clip's warning an error.
        warnings.filterwarnings("error", message=".*QuickGELU.*")
        source = str(own) if own.is_file() else card.weights
        model = open_clip.create_model(card.architecture, pretrained=source, precision="fp32")
    wants = {"mean": card.mean, "std": card.std} | getattr(model.visual, "preprocess_cfg", {})
    if tuple(wants["mean"]) != card.mean or tuple(wants["std"]) != card.std:
        raise DataError(f"{card.name} wants mean {wants['mean']} and std {wants['std']}; add it to backbones.toml")
    return model


def digest(model: Any) -> str:
    """sha256 over the names and bytes of a model's parameters."""
    weights = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        weights.update(name.encode())
        weights.update(parameter.detach().cpu().contiguous().numpy().data)
    return weights.hexdigest()


def _writing(path: Path) -> AbstractContextManager[None]:
    text = f"cannot write {path}: {{why}}; free space or set BENCH_CACHE to another folder"
    return retold(DataError, text, OSError, SafetensorError)


def _same_as_before(card: BackboneCard, sha256: str) -> None:
    """DataError when weights that no card has a hash of are not those that this machine saw first."""
    path = weights_file(card).with_suffix(".sha256")
    with _writing(path):
        if not path.is_file():
            atomic.write(path, f"{sha256}\n".encode())
        before = path.read_text(encoding="utf-8").strip()
    if before != sha256:
        raise DataError(
            f"the weights of {card.name} are not those that were used here before (sha256 {sha256[:12]}, before "
            f"{before[:12]}), so results would not compare; put the first back, or remove {path} and use a new store"
        )


def rest(card: BackboneCard) -> dict[str, Tensor]:
    """What an open_clip model of this backbone holds besides its image tower: text tower and logit scale."""
    return {name: t for name, t in _create(card).state_dict().items() if not name.startswith("visual.")}


def verify_file(path: Path, expected: str, remedy: str) -> None:
    """DataError unless the file is there and has the recorded sha256 (an empty one is not checked)."""
    if not path.is_file():
        raise DataError(f"{path} is missing; {remedy}")
    if expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise DataError(f"{path} is damaged: its sha256 is not {expected[:16]}...; {remedy}")


def _head(model: Any, weights: str, backbone: BackboneCard, card: DatasetCard, device: torch.device) -> Tensor:
    """The zero-shot head of a dataset, from the cache or from the text tower of these weights, on the device."""
    what = f"{HEAD_VERSION}|{backbone.fingerprint}|{weights}|{'|'.join(card.classes)}|{'|'.join(card.templates)}"
    key = hashlib.sha256(what.encode()).hexdigest()[:16]
    name = f"{backbone.name.replace('/', '--')}-{card.name}-{key}.safetensors"
    path = images.cache_folder() / "heads" / name
    if not path.is_file():
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with alone(path.parent / f".{name}.lock"):  # ImageNet has 80,000 prompts: one process reads them
                if not path.is_file():
                    head = make_head(model.to(device), backbone.architecture, card).cpu()
                    atomic.write(path, safetensors.torch.save({"head": head.contiguous()}))
    with retold(DataError, f"cached head {path} is damaged; delete it and run again", SafetensorError, KeyError):
        return safetensors.torch.load_file(path)["head"]


@torch.inference_mode()
def make_head(model: Any, architecture: str, card: DatasetCard) -> Tensor:
    """Zero-shot head of CLIP: per class the mean of normalised prompt embeddings, normalised, x exp(logit_scale)."""
    import open_clip

    tokenizer = open_clip.get_tokenizer(architecture)
    model = model.eval()
    device = model.logit_scale.device
    rows = []
    for name in card.classes:
        prompts = tokenizer([t.replace("{}", name) for t in card.templates]).to(device)
        features = model.encode_text(prompts, normalize=True)
        rows.append(torch.nn.functional.normalize(features.mean(dim=0), dim=0))
    return (torch.stack(rows) * model.logit_scale.exp()).float()
