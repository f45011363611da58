"""Task vectors as safetensors: tensors plus a JSON header, never pickle.

A vector holds only what its fine-tuning changed. LoRA factors travel beside the dense update under `lora.B.NAME` and
`lora.A.NAME` (update = B A, the factor alpha / rank already inside B).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from bench.errors import DataError, retold

FORMAT = "bench-vector-1"
FACTOR_B, FACTOR_A = "lora.B.", "lora.A."


def dump(
    delta: Mapping[str, Tensor], factors: Mapping[str, tuple[Tensor, Tensor]] | None, about: Mapping[str, Any]
) -> bytes:
    """The bytes of a vector file; `about` goes into its header as JSON. Equal vectors give equal bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in delta.items()}
    for name, (b, a) in (factors or {}).items():
        tensors[FACTOR_B + name] = b.detach().cpu().contiguous()
        tensors[FACTOR_A + name] = a.detach().cpu().contiguous()
    return _sorted(safetensors.torch.save(tensors, {"format": FORMAT, "about": json.dumps(about, sort_keys=True)}))


def _sorted(data: bytes) -> bytes:
    """The same file with a sorted header; safetensors writes metadata in an order that changes from call to call."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def load(data: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
    """`(delta, factors)` from the bytes of a vector file, names sorted; `where` names it in errors."""
    damage = SafetensorError, ValueError, TypeError, KeyError, RuntimeError, OverflowError
    with retold(DataError, f"{where} is not a valid vector file ({{why}}); delete it and run again", *damage):
        tensors = dict(sorted(safetensors.torch.load(data).items()))
        adapted = [name.removeprefix(FACTOR_B) for name in tensors if name.startswith(FACTOR_B)]
        factors = {name: (tensors[FACTOR_B + name], tensors[FACTOR_A + name]) for name in adapted}
    delta = {n: t for n, t in tensors.items() if not n.startswith((FACTOR_A, FACTOR_B))}
    return delta, factors


def sha256(data: bytes) -> str:
    """Hash recorded with every vector and checked before it is used."""
    return hashlib.sha256(data).hexdigest()
