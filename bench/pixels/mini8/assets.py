"""The shipped backbone `mini`: a float16 safetensors file holding an open_clip model, and how it is read and written.

The token embedding of open_clip's vocabulary (49,408 rows) would be most of the file, although captions and templates
use a few hundred rows. Only those are stored, as `token_embedding.rows` (int32 ids) and `token_embedding.values`; every
other row is zero after loading, so an unknown word is merely uninformative. The header's JSON (`mini` in the metadata)
says how the weights were made and carries a SHA-256 over the stored tensors, which `load_mini` checks.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.errors import DataError, retold

FOLDER = Path(__file__).parents[2] / "assets"
WEIGHTS = FOLDER / "mini.safetensors"
CONFIG = FOLDER / "mini.json"
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
EMBEDDING = "token_embedding.weight"
ROWS, VALUES = "token_embedding.rows", "token_embedding.values"
REPAIR = "restore the file with `git checkout -- bench/assets` or reinstall bench"


def load_mini(path: Path = WEIGHTS) -> dict[str, Tensor]:
    """State dict of the whole open_clip model, float32, with the full token embedding; DataError if damaged."""
    tensors, header = read_mini(path)
    if fingerprint(tensors) != header.get("sha256"):
        raise DataError(f"{path.name} is damaged (its checksum differs from its header's); {REPAIR}")
    rows, values = tensors.pop(ROWS), tensors.pop(VALUES)
    state = {name: tensor.float() for name, tensor in tensors.items()}
    vocabulary = json.loads(CONFIG.read_text(encoding="utf-8"))["text_cfg"]["vocab_size"]
    embedding = torch.zeros(vocabulary, values.shape[1])
    embedding[rows.long()] = values.float()
    return state | {EMBEDDING: embedding}


def read_mini(path: Path = WEIGHTS) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header as stored."""
    text = f"{path.name} cannot be read ({{why}}); {REPAIR}"
    with retold(DataError, text, OSError, SafetensorError, KeyError, ValueError), safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads((file.metadata() or {})["mini"])  # noqa: SIM118


def save_mini(state: dict[str, Tensor], rows: Tensor, header: dict[str, Any], path: Path = WEIGHTS) -> None:
    """Store a state dict whose token embedding matters in `rows` (ids, ascending) only."""
    tensors = {name: tensor.half().contiguous() for name, tensor in state.items() if name != EMBEDDING}
    tensors |= {ROWS: rows.int(), VALUES: state[EMBEDDING][rows].half().contiguous()}
    header = header | {"sha256": fingerprint(tensors)}
    save_file(tensors, str(path), metadata={"mini": json.dumps(header, sort_keys=True)})


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
