"""LoRA adapters as low-rank updates of open_clip's matrices.

Three layouts are read. PEFT's files (`adapter_model.safetensors` beside `adapter_config.json`) name a module of the
adapted model behind `base_model.model.`, and end in `.lora_A.weight` [rank, in] and `.lora_B.weight` [out, rank]:

| module | matrix here |
|---|---|
| transformer.resblocks.L.attn (PEFT's pair for `nn.MultiheadAttention`) | ...attn.in_proj_weight |
| transformer.resblocks.L.attn.base_layer.out_proj (the same module's second pair) | ...attn.out_proj.weight |
| transformer.resblocks.L.mlp.{c_fc, c_proj} | the same name, .weight |
| vision_model.encoder.layers.L.self_attn.{q, k, v}_proj | rows of ...attn.in_proj_weight |
| vision_model.encoder.layers.L.{self_attn.out_proj, mlp.fc1, mlp.fc2} | as in `names` |
| visual_projection | proj, transposed |

The third is the state dict of the OrthoReg authors' LoRA encoder: pairs `lora_A`, `lora_B` beside the frozen weights
`mlp.*` of `attn.lora_in_proj_layer` and `attn.out_proj`; alpha is not in it.

PEFT (0.21.2 was run, huggingface/peft #3774) adds the pair of `out_proj` twice in every forward pass and every merge.
The expert that was trained and evaluated is therefore pretrained + 2 (alpha / rank) B A there, and that is imported.
Whatever would change the model in another way (DoRA, biases, saved modules, starts that move the pretrained weights) is
refused, never dropped.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from packaging.version import InvalidVersion, Version
from torch import Tensor

from bench.errors import DataError, retold
from bench.exchange.checkpoints import names
from bench.exchange.checkpoints.names import Params
from bench.ground import toml_json

Pairs = dict[str, tuple[Tensor, Tensor]]
"""Name of a matrix -> (B, A), float32, with update = B A: the scale is inside B."""

CONFIG = "adapter_config.json"
CONFIG_LIMIT = 2**20
TWICE = Version("0.22.dev0")
"""The first release of PEFT of which it is not known whether it still adds `out_proj`'s pair twice."""
STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the pretrained weights as they are."""
CHANGES = (
    *("use_dora", "use_qalora", "use_bdlora", "fan_in_fan_out", "lora_bias", "modules_to_save", "layer_replication"),
    *("trainable_token_indices", "target_parameters", "alora_invocation_tokens", "arrow_config", "corda_config"),
    *("kasa_config", "lora_ga_config", "monteclora_config", "velora_config", "megatron_config"),
)
"""Options of PEFT under which an adapter is more than, or other than, B A added to a weight."""
PAIR = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.\w+)?\.weight")
OPEN_CLIP = re.compile(r"(transformer\.resblocks\.\d+\.(?:attn|mlp\.c_fc|mlp\.c_proj))((?:\.base_layer)?\.out_proj)?")
LAYER = re.compile(r"encoder\.layers\.(\d+)\.(self_attn|mlp)\.(\w+)")
OTHERS = {"out_proj": "attn.out_proj", "fc1": "mlp.c_fc", "fc2": "mlp.c_proj"}
OWN = re.compile(r"(.*attn)\.(lora_in_proj_layer|out_proj)\.(lora_[AB]|mlp\.weight|mlp\.bias)")


@dataclass(frozen=True)
class Adapter:
    """Low-rank updates; `base` are the pretrained parameters when the file has them, `scale` says how B was scaled."""

    pairs: Pairs
    base: Params | None
    format: str
    scale: str
    notes: tuple[str, ...] = ()


def holds_pairs(tensors: Mapping[str, Any]) -> bool:
    """Whether a file's tensors are those of an adapter."""
    return any(".lora_" in name for name in tensors)


def read(tensors: Params, path: Path, *, alpha: float | None = None, out_proj: int | None = None) -> Adapter:
    """The adapter that a file's tensors are.

    Args:
        tensors: by their names in the file.
        path: the file; PEFT's configuration is looked for beside it.
        alpha: LoRA's alpha, for the layout that does not record it; refused where the configuration does.
        out_proj: how often PEFT added the pair of a fused attention's `out_proj`, 1 or 2; by default by its version.

    Raises:
        DataError: alpha or the configuration is missing, or something in the file is not an update B A of a matrix.
    """
    if any(OWN.fullmatch(name) and ".lora_in_proj_layer." in name for name in tensors):
        return _authors(tensors, path.name, alpha)
    config = _config(path)
    if alpha is not None:
        raise DataError(f"{path.name}: alpha is in its {CONFIG} ({config['lora_alpha']}); leave --lora-alpha out")
    return _peft(tensors, config, path.name, out_proj)


def updates(pairs: Pairs, shapes: Mapping[str, tuple[int, ...]], where: str) -> Params:
    """The dense updates B A; DataError where one does not fit the matrix of this name."""
    dense: Params = {}
    for name, (b, a) in pairs.items():
        if name not in shapes:
            raise DataError(f"{where} adapts {name}, which this backbone does not have: another architecture")
        size = (b.shape[0], a.shape[1])
        if size != shapes[name]:
            raise DataError(f"{where} has another architecture: {name} is {size} instead of {shapes[name]}")
        dense[name] = b @ a
    return dense


def _config(path: Path) -> dict[str, Any]:
    file = path.with_name(CONFIG)
    with retold(DataError, f"{path.name} is an adapter: put its {CONFIG} beside it ({{why}})", OSError):
        if file.stat().st_size > CONFIG_LIMIT:
            raise DataError(f"{file} is larger than any configuration of an adapter; refused")
        data = file.read_bytes()
    with retold(DataError, f"{file} is not valid JSON ({{why}}); fetch it again", ValueError):
        config = toml_json.parse_object(data)
    if not isinstance(config.get("lora_alpha"), int | float) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type")
        raise DataError(f"{file}: bench reads adapters of the type LORA with a lora_alpha, not {kind!r}")
    used = [name for name in CHANGES if config.get(name)]
    used += ["bias"] if config.get("bias", "none") != "none" else []
    if used:
        value = json.dumps(config[used[0]])[:60]
        raise DataError(f"{file}: {used[0]} = {value} makes it more than a low-rank update; refused")
    if config.get("init_lora_weights", True) not in STARTS:
        start = config["init_lora_weights"]
        raise DataError(
            f"{file}: init_lora_weights = {start!r} moves the pretrained weights; convert the adapter with PEFT's "
            "path_initial_model_for_weight_conversion first"
        )
    return config


def _peft(tensors: Params, config: Mapping[str, Any], where: str, out_proj: int | None) -> Adapter:
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = PAIR.fullmatch(name)
        if match is None or tensor.ndim != 2:
            raise DataError(f"{where}: {name} {tuple(tensor.shape)} is not a factor of a matrix's update; refused")
        modules.setdefault(match[1], {})[match[2]] = tensor.float()
    visual = [module for module in modules if re.match(r"(model\.)?visual\.", module)]
    base = (config.get("auto_mapping") or {}).get("base_model_class")
    text = [m for m in modules if "text_model." in m or ((visual or base == "CLIP") and m not in visual)]
    if text and not all(m == "visual_projection" for m in text):
        raise DataError(f"{where} adapts the text tower ({min(text)}), whose heads bench keeps frozen; refused")
    times, notes = _times(modules, config, where, out_proj)
    pairs: Pairs = {}
    fused: dict[str, Pairs] = {}
    for module, pair in modules.items():
        if set(pair) != {"A", "B"}:
            raise DataError(f"{where}: {module} has lora_{min(pair)} alone; the file is incomplete")
        a, b = pair["A"], pair["B"]
        if len(a) != b.shape[1]:
            raise DataError(f"{where}: the factors of {module} have ranks {len(a)} and {b.shape[1]}")
        b = b * _scale(module, len(a), config, where)
        plain = re.sub(r"^(model\.)?(visual|vision_model)\.", "", module)
        ours, layer = OPEN_CLIP.fullmatch(plain), LAYER.fullmatch(plain)
        if ours and not ours[2]:
            pairs[f"{ours[1]}.in_proj_weight" if ours[1].endswith("attn") else f"{ours[1]}.weight"] = b, a
        elif ours and ours[1].endswith("attn") and ours[2] == ".base_layer.out_proj":
            pairs[f"{ours[1]}.out_proj.weight"] = b * times, a
        elif ours and ours[2] == ".out_proj":
            raise DataError(f"{where}: PEFT never applies a pair on {module} alone, so it was not trained; refused")
        elif layer and layer[3] in names.QKV:
            fused.setdefault(f"transformer.resblocks.{layer[1]}.attn.in_proj_weight", {})[layer[3]] = b, a
        elif layer and layer[3] in OTHERS:
            pairs[f"transformer.resblocks.{layer[1]}.{OTHERS[layer[3]]}.weight"] = b, a
        elif plain == "visual_projection":
            pairs["proj"] = a.T.contiguous(), b.T.contiguous()
        else:
            raise DataError(f"{where} adapts {module}, which is no matrix of a CLIP image tower; refused")
    pairs |= {name: _fused(parts) for name, parts in fused.items()}
    scale = json.dumps({k: config.get(k) for k in ("lora_alpha", "alpha_pattern", "use_rslora")} | {"out_proj": times})
    return Adapter(pairs, None, "peft", scale, notes)


def _times(
    modules: Mapping[str, Any], config: Mapping[str, Any], where: str, asked: int | None
) -> tuple[int, tuple[str, ...]]:
    """How often PEFT adds the pair of a fused attention's `out_proj`, and what to say about it."""
    if not any(module.endswith(".attn.base_layer.out_proj") for module in modules):
        if asked is not None:
            raise DataError(f"{where} has no pair on a fused attention's out_proj; leave --peft-out-proj out")
        return 1, ()
    version = config.get("peft_version")
    if asked is None:
        try:
            unknown = version is not None and Version(str(version)) >= TWICE
        except InvalidVersion:
            unknown = True
        if unknown:
            raise DataError(
                f"{where} was made by PEFT {version}: whether that adds the pair of out_proj once, or twice as up to "
                "0.21 (huggingface/peft #3774), is not known here; say so with --peft-out-proj 1 or 2"
            )
    times = asked or 2
    return times, (f"the pair of attn.out_proj counts {'twice, as PEFT applies it' if times == 2 else 'once'}",)


def _scale(module: str, rank: int, config: Mapping[str, Any], where: str) -> float:
    """alpha / rank, or alpha / sqrt(rank) where the configuration says so; patterns as PEFT matches them."""
    name = module.removesuffix(".base_layer.out_proj")

    def of(option: str, usual: Any) -> Any:
        patterns = config.get(option) or {}
        return next((v for p, v in patterns.items() if re.fullmatch(rf"(.*\.)?({p})", name)), usual)

    if rank != of("rank_pattern", config.get("r", rank)):
        raise DataError(f"{where}: {module} has rank {rank}, its {CONFIG} says {config.get('r')}: another adapter's")
    return float(of("alpha_pattern", config["lora_alpha"])) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _fused(parts: Pairs) -> tuple[Tensor, Tensor]:
    """One pair for q, k and v together, exactly: the A's below each other, the B's in their own rows and columns."""
    width = len(next(iter(parts.values()))[0])
    a = torch.cat([parts[p][1] for p in names.QKV if p in parts])
    own = [parts[p][0] if p in parts else a.new_zeros(width, 0) for p in names.QKV]
    return torch.block_diag(*own), a


def _authors(tensors: Params, where: str, alpha: float | None) -> Adapter:
    """The OrthoReg authors' LoRA encoder: the whole tower, with pairs beside the two frozen attention matrices."""
    if alpha is None:
        raise DataError(
            f"{where}: its LoRA alpha is not in the file; give --lora-alpha (the authors' commands say 8, their code's "
            "default is 1)"
        )
    halves: dict[str, dict[str, Tensor]] = {}
    base: Params = {}
    for name, tensor in tensors.items():
        plain = name.removeprefix("model.").removeprefix("visual.")
        match = OWN.fullmatch(plain)
        if match and match[3].startswith("lora_"):
            target = "in_proj_weight" if match[2] == "lora_in_proj_layer" else "out_proj.weight"
            halves.setdefault(f"{match[1]}.{target}", {})[match[3]] = tensor.float()
        elif match:
            kind = match[3].removeprefix("mlp.")
            base[f"{match[1]}.{f'in_proj_{kind}' if match[2] == 'lora_in_proj_layer' else f'out_proj.{kind}'}"] = tensor
        elif ".lora_" in name:
            raise DataError(f"{where}: {name} is no pair that the authors' encoder has; refused")
        elif "visual." in name:
            base[plain] = tensor
    names.shape_of(base, where)
    pairs: Pairs = {}
    for name, half in halves.items():
        if set(half) != {"lora_A", "lora_B"} or len(half["lora_A"]) != half["lora_B"].shape[-1]:
            raise DataError(f"{where}: the two factors of {name} are not both there, or have different ranks")
        pairs[name] = half["lora_B"] * (alpha / len(half["lora_A"])), half["lora_A"]
    return Adapter(pairs, base, "orthoreg_lora", f"alpha {alpha:g}", (f"LoRA alpha {alpha:g}, as given at import",))
