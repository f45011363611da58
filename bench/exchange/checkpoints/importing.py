"""Published experts as open_clip image-tower parameters, whatever their file format."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.errors import DataError, UnknownName, retold
from bench.exchange.checkpoints import adapters, names, pickles
from bench.exchange.checkpoints.adapters import Pairs
from bench.exchange.checkpoints.names import Params

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
TENSOR_NAME = re.compile(r"[\w.\-]{1,200}")
TENSOR_LIMIT = 20_000
WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "adapter_model.bin")
"""Names under which a folder, as the hub stores models, holds weights."""

# What is known to be wrong with, or special about, published checkpoint families (FIELD.md sections 0 and 3).
FAMILIES: dict[str, tuple[str, ...]] = {
    "bench": (),
    "task_vectors": ("trained with the image projection; DTD test images are the folder dtd/val",),
    "tta": ("trained with the image projection on train minus validation",),
    "orthoreg": (
        "lower single-task accuracy than plain fine-tuning: normalised accuracy alone flatters it",
        "released code penalises the unsquared norm of the smaller Gram matrix, the paper the squared column form",
    ),
    "tall_masks": ("first release: DTD evaluated on a leaked test split (97.98 / 98.30 / 98.51 %)",),
    "fusionbench": (
        "image projection frozen and not in the file",
        "trained on all training images, 4,000 steps: validation images were seen",
    ),
    "knots": ("LoRA rank 16 on a Hugging Face model; stored Cars accuracies look contaminated",),
    "peft": (),
    "hugging_face": (),
    "open_clip": (),
}


@dataclass(frozen=True)
class Imported:
    """An expert from a file.

    `params` are open_clip visual names without prefix, float32; `base` the pretrained parameters when the file has
    them (linearised checkpoints, the OrthoReg authors' LoRA). `format` is what the file was, `family` who made it,
    `notes` what to know. An adapter has `pairs` (B, A) by matrix, the scale inside B, and no `params`; its `sha256` is
    that of the file's hash and of the scale, because both decide what it is.
    """

    params: Params
    base: Params | None
    format: str
    family: str
    source: str
    sha256: str
    notes: tuple[str, ...]
    pairs: Pairs = field(default_factory=dict)


def import_expert(
    path: Path,
    family: str | None = None,
    *,
    sha256: str = "",
    alpha: float | None = None,
    out_proj: int | None = None,
) -> Imported:
    """Read an expert from a `.pt` module or state dict or a `.safetensors` file, without running anything in it.

    Args:
        path: the file, or a folder with one of `WEIGHTS`.
        family: one of `FAMILIES`, recorded with its known defects; by default told from the format.
        sha256: expected hash of the file; checked before anything is read.
        alpha, out_proj: of adapters, see `bench.exchange.checkpoints.adapters.read`.

    Raises:
        DataError: unreadable, refused (see `bench.exchange.checkpoints.pickles`), another hash, or not a CLIP image
        tower.
    """
    if family is not None and family not in FAMILIES:
        raise UnknownName("checkpoint family", family, FAMILIES)
    if path.is_dir():
        path = next((path / name for name in WEIGHTS if (path / name).is_file()), path / WEIGHTS[0])
    digest = file_hash(path)
    if sha256 and sha256 != digest:
        raise DataError(f"{path.name} has the sha256 {digest[:16]}..., not {sha256[:16]}...: damaged or another file")
    leaves: Mapping[str, Any] = read_safetensors(path) if path.suffix == ".safetensors" else pickles.load(path)
    tensors = {n: t for n, t in leaves.items() if isinstance(t, Tensor)}
    texts = {n: t for n, t in leaves.items() if isinstance(t, str)}
    if adapters.holds_pairs(tensors):
        return _adapter(adapters.read(tensors, path, alpha=alpha, out_proj=out_proj), path, family, digest)
    if alpha is not None or out_proj is not None:
        raise DataError(f"{path.name} is no LoRA adapter; leave --lora-alpha and --peft-out-proj out")
    params, base, kind, notes = _recognise(tensors, texts, path.name)
    _finite(params, path.name)
    family = family or _family(kind, params)
    return Imported(_float(params), base and _float(base), kind, family, path.name, digest, (*notes, *FAMILIES[family]))


def _adapter(adapter: adapters.Adapter, path: Path, family: str | None, digest: str) -> Imported:
    halves = {f"{n} ({half})": t for n, pair in adapter.pairs.items() for half, t in zip("BA", pair, strict=True)}
    _finite(halves, path.name)
    family = family or ("peft" if adapter.format == "peft" else "orthoreg")
    identity = hashlib.sha256(f"{digest} {adapter.scale}".encode()).hexdigest()
    notes = (*adapter.notes, f"sha256 of the file: {digest}", *FAMILIES[family])
    base = adapter.base and _float(adapter.base)
    return Imported({}, base, adapter.format, family, path.name, identity, notes, adapter.pairs)


def task_vector(expert: Imported, pretrained: Mapping[str, Tensor]) -> Params:
    """Expert minus pretrained, checked name by name and shape by shape; names that the file lacks are not in it.

    A checkpoint that carries the weights it started from must carry the pretrained ones.
    """
    if expert.pairs:
        _same_start(expert, pretrained, [name for name in pretrained if name in (expert.base or {})])
        return adapters.updates(expert.pairs, {n: tuple(p.shape) for n, p in pretrained.items()}, expert.source)
    frozen = [name for name in pretrained if name not in expert.params and name == "proj"]
    wanted = {name: tuple(p.shape) for name, p in pretrained.items() if name not in frozen}
    names.compare({n: tuple(p.shape) for n, p in expert.params.items()}, wanted, expert.source)
    _same_start(expert, pretrained, wanted if expert.base else ())
    return {n: expert.params[n] - pretrained[n].float().cpu() for n in wanted}


def _same_start(expert: Imported, pretrained: Mapping[str, Tensor], wanted: Iterable[str]) -> None:
    """DataError unless the weights that the file says it started from are the pretrained ones."""
    base = expert.base or {}
    off = [
        n
        for n in wanted
        if base[n].shape != pretrained[n].shape
        or not torch.allclose(base[n], pretrained[n].float().cpu(), atol=1e-3, rtol=1e-3)
    ]
    if off:
        raise DataError(f"{expert.source} was trained from other pretrained weights: {len(off)} differ, first {off[0]}")


def file_hash(path: Path) -> str:
    """sha256 of a file; `DataError` when it cannot be read."""
    with retold(DataError, f"cannot read {path}: {{why}}", OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_safetensors(path: Path) -> Params:
    """All tensors of a safetensors file; sizes and overlaps are checked by the library, names and counts here."""
    damage = SafetensorError, OSError, ValueError, RuntimeError, MemoryError
    with (
        retold(DataError, f"{path.name} is not a valid safetensors file ({{why}})", *damage),
        safe_open(path, framework="pt") as file,
    ):
        keys = list(file.keys())
        strange = [key for key in keys if not TENSOR_NAME.fullmatch(key)]
        if strange or len(keys) > TENSOR_LIMIT:
            raise DataError(f"{path.name} has {len(keys):,} tensors, {len(strange)} with impossible names; refused")
        return {key: file.get_tensor(key) for key in keys}


def _recognise(
    tensors: Params, texts: Mapping[str, str], where: str
) -> tuple[Params, Params | None, str, tuple[str, ...]]:
    """(parameters, pretrained parameters, format, notes)."""
    if any(name.startswith("bench-vector") for name in tensors):
        raise DataError(f"{where} is a task vector of bench, not an expert")
    tensors = {_stripped(name): tensor for name, tensor in tensors.items()}
    numbered: dict[str, dict[int, Tensor]] = {"params": {}, "params0": {}}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(?:model\.)?(params0?)\.(\d+)", name)
        if match:
            numbered[match[1]][int(match[2])] = tensor
    if numbered["params"] and numbered["params0"]:
        base = names.from_numbers(numbered["params0"], where)
        note = f"linearised {texts.get('model_name', 'model')}: evaluate as a tangent model"
        return names.from_numbers(numbered["params"], where), base, "linearised", (note,)
    if any(name.startswith(names.VISION) for name in tensors):
        params = names.from_hf(tensors, where)
        names.shape_of(params, where)
        return params, None, "hf", () if "proj" in params else ("the image projection is not in the file: pretrained",)
    for prefix, kind in (("model.visual.", "module"), ("visual.", "open_clip"), ("", "open_clip")):
        params = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if "class_embedding" in params or (prefix and params):
            params = {n: t for n, t in params.items() if t.dtype in FLOATS}
            if prefix:
                return params, None, kind, ()
            text = (*names.TEXT_FIRST[1:], *names.TEXT_LAST)
            return {n: t for n, t in params.items() if n not in text}, None, kind, ()
    first = json.dumps(sorted(tensors)[:3])
    raise DataError(f"{where} holds no image tower that bench knows: its names begin with {first}")


def _family(kind: str, params: Params) -> str:
    """The likeliest maker: FusionBench's models are Hugging Face towers without projection."""
    if kind == "hf":
        return "hugging_face" if "proj" in params else "fusionbench"
    return "tta" if kind in ("module", "linearised") else "open_clip"


def _stripped(name: str) -> str:
    """Without the wrappers of training scripts: `state_dict.`, `module.`, `image_encoder.`."""
    for prefix in ("state_dict.", "module.", "image_encoder."):
        name = name.removeprefix(prefix)
    return name


def _float(params: Params) -> Params:
    return {name: tensor.float().contiguous().clone() for name, tensor in params.items()}


def _finite(params: Mapping[str, Any], where: str) -> None:
    if not params:
        raise DataError(f"{where} holds no parameters")
    wrong = [n for n, t in params.items() if t.dtype not in FLOATS or not bool(torch.isfinite(t.float()).all())]
    if wrong:
        raise DataError(f"{where}: {len(wrong)} tensor(s) are not finite numbers, first {wrong[0]}")
