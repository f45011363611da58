"""Whole-module `.pt` files read without trusting them: tensors and plain containers come out, nothing runs.

The reference code saves modules with `torch.save(module)`, so a file names classes to be rebuilt, and a hostile file
names functions to be called. Here nothing that a file names is ever imported or called:

1. the archive is a plain zip as torch writes it: nothing compressed, no TorchScript, bounded sizes, no legacy pickle;
2. its pickle is scanned statically: only opcodes that torch's restricted unpickler needs, and only names below
   `MODULES`;
3. every name is bound to an inert stand-in, and `torch.load(weights_only=True)` builds the rest;
4. the stand-ins' `_parameters`, `_buffers` and `_modules` are walked for tensors.

An empty result is refused too: a harmless name can carry a gadget (`torch.nn.modules.module` + `os.system`), which
lands on a stand-in and yields nothing.
"""

import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.errors import DataError, retold

MODULES = ("torch.nn.modules.", "torchvision.transforms.", "open_clip.", "src.")
PICKLE_LIMIT = 16 * 2**20
ENTRY_LIMIT = 20_000
NAME_LIMIT = 1_000
DEPTH_LIMIT = 64
FORBIDDEN = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}


class Inert:
    """Stand-in for every class and function that a file names: keeps state it is given, does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({key: value for key, value in state.items() if isinstance(key, str)})


def load(path: Path) -> dict[str, Any]:
    """Tensors (and texts and numbers) of a `.pt` file by dotted name.

    Raises:
        DataError: not a torch zip archive, a name outside `MODULES`, an opcode that checkpoints do not need, tensors
            larger than the bytes that hold them, or no tensor at all.
    """
    scan(path)
    # torch's restricted unpickler raises UnpicklingError, RuntimeError, ValueError, KeyError
    with retold(DataError, str(_refused(path, "{why}")), Exception):
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        foreign = [name for name in names if not name.startswith(MODULES)]
        if foreign:
            raise _refused(path, f"it names {foreign[0]!r}")
        with torch.serialization.safe_globals([(Inert, name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    leaves = dict(_walk(path, content))
    tensors = {name: value for name, value in leaves.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        _sound(path, name, tensor)
    if not tensors:
        raise _refused(path, "it holds no tensors")
    return leaves


def scan(path: Path) -> None:
    """Static checks of the archive and its pickle; `DataError` when the file is not one that `torch.save` writes."""
    if not zipfile.is_zipfile(path):
        raise _refused(path, "it is not a zip archive (a legacy pickle, a damaged file, or something else)")
    damage = zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, RuntimeError
    with retold(DataError, str(_refused(path, "its archive is damaged ({why})")), *damage):
        with zipfile.ZipFile(path) as archive:
            data = archive.read(_pickle(path, archive.infolist()))
        globals_ = list(_globals(path, data))
    if len(globals_) > NAME_LIMIT:
        raise _refused(path, f"it names {len(globals_):,} classes and functions")


def _pickle(path: Path, entries: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    size = path.stat().st_size
    if len(entries) > ENTRY_LIMIT:
        raise _refused(path, f"its archive has {len(entries):,} entries")
    if any("/code/" in e.filename or e.filename.endswith("/constants.pkl") for e in entries):
        raise _refused(path, "it is a TorchScript program; export its state dict as safetensors first")
    if any(e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size for e in entries):
        raise _refused(path, "its archive is compressed, which torch never writes")
    if sum(e.file_size for e in entries) > size:
        raise _refused(path, "its archive claims more bytes than the file has")
    if any(e.filename.startswith("/") or ".." in e.filename.split("/") for e in entries):
        raise _refused(path, "its archive has names that leave it")
    pickles = [e for e in entries if e.filename.endswith(".pkl")]
    if len(pickles) != 1 or not re.fullmatch(r"[^/]+/data\.pkl", pickles[0].filename):
        raise _refused(path, "its archive does not have exactly one data.pkl")
    if pickles[0].file_size > PICKLE_LIMIT:
        raise _refused(path, f"its pickle has {pickles[0].file_size:,} bytes besides the tensors")
    return pickles[0]


def _globals(path: Path, data: bytes) -> Iterator[str]:
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in FORBIDDEN:
            raise _refused(path, f"its pickle uses {opcode.name}, which checkpoints do not need")
        if opcode.name == "GLOBAL":
            yield str(argument)


def _walk(path: Path, root: Any) -> Iterator[tuple[str, Any]]:
    """Leaves of stand-ins, dictionaries and lists by dotted name, each container once."""
    stack: list[tuple[str, Any, int]] = [("", root, 0)]
    seen: set[int] = set()
    while stack:
        name, value, depth = stack.pop()
        if isinstance(value, Tensor | str | int | float):
            yield name, value
            continue
        children = _children(value)
        if not children or id(value) in seen:
            continue
        seen.add(id(value))
        if depth > DEPTH_LIMIT:
            raise _refused(path, f"its modules are nested deeper than {DEPTH_LIMIT}")
        inner = [(f"{name}.{key}" if name else key, child, depth + 1) for key, child in children.items()]
        stack += reversed(inner)


def _children(value: Any) -> dict[str, Any]:
    if isinstance(value, Inert):
        tables = [value.__dict__.get(part) for part in ("_parameters", "_buffers", "_modules")]
        children = [item for table in tables if isinstance(table, Mapping) for item in table.items()]
        return {str(key): child for key, child in children if isinstance(child, Tensor | Inert)}
    if isinstance(value, Mapping):
        return {str(key): child for key, child in value.items()}
    return {}


def _sound(path: Path, name: str, tensor: Tensor) -> None:
    """A file can claim a huge tensor over a few bytes by strides of 0."""
    if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise _refused(path, f"tensor {name!r} claims more than the file holds")


def _refused(path: Path, why: str) -> DataError:
    return DataError(f"{path.name} is refused: {why}; import a state dict or safetensors from a source you trust")
