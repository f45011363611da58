"""Safetensors files read and written one tensor at a time, so that a merge of files needs no model in memory.

Reading copies the asked-for tensor out of the file and keeps nothing; writing goes to a hidden file that is renamed
when whole. Every way a file can be wrong is one line that names the file and what to do.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from bench.errors import BenchError, DataError, retold
from bench.ground import atomic, toml_json

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
HEADER_LIMIT = 100_000_000  # bytes; the format's own limit


class TensorFile(Mapping[str, Tensor]):
    """A safetensors file as a mapping; every access reads that tensor anew.

    `shapes`, `dtypes` and `metadata` come from the header. DataError for a pickle, a truncated or a corrupt file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        text = f"{self.path}: cannot be read ({{why}}); check the path"
        with retold(DataError, text, OSError), self.path.open("rb") as file:
            size = self.path.stat().st_size
            self._start, header = _header(self.path, file, size)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise DataError(f"{self.path}: corrupt header, metadata that are not text; copy or download it again")
        self.metadata: dict[str, str] = metadata
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        for name, about in header.items():
            self._admit(name, about)
        self._tile(size)

    def _admit(self, name: str, about: Any) -> None:
        text = f"{self.path}: corrupt header, {name!r} is {repr(about)[:200]}; copy or download it again"
        with retold(DataError, text, KeyError, TypeError, ValueError):
            shape, (start, stop), dtype = tuple(about["shape"]), about["data_offsets"], DTYPES[about["dtype"]]
            if not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, start, stop)):
                raise ValueError
        if stop - start != math.prod(shape) * dtype.itemsize:
            raise DataError(f"{self.path}: corrupt header, the size of {name!r} is wrong; copy or download it again")
        self.shapes[name], self.dtypes[name], self._spans[name] = shape, dtype, (start, stop)

    def _tile(self, size: int) -> None:
        """Tensors must lie one after the other, as the format wants: no gap, no overlap, nothing behind them."""
        end = 0
        for name, (start, stop) in sorted(self._spans.items(), key=lambda item: item[1]):
            if start != end:
                raise DataError(f"{self.path}: corrupt header, {name!r} does not begin where the tensor before it ends")
            end = stop
        whole = self._start + end
        if size < whole:
            raise DataError(f"{self.path}: truncated, {size:,} of {whole:,} bytes; copy or download it again")
        if size > whole:
            raise DataError(f"{self.path}: {size - whole:,} bytes too many; copy or download it again")

    def __getitem__(self, name: str) -> Tensor:
        start, stop = self._spans[name]
        tensor = torch.empty(self.shapes[name], dtype=self.dtypes[name])
        if stop == start:
            return tensor
        with self.path.open("rb") as file:
            file.seek(self._start + start)
            if file.readinto(tensor.reshape(-1).view(torch.uint8).numpy()) != stop - start:
                raise DataError(f"{self.path}: truncated while it was read, at {name!r}; copy or download it again")
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


def _header(path: Path, file: BinaryIO, size: int) -> tuple[int, dict[str, Any]]:
    """Where the data begins, and the header as it is; DataError unless it is one."""
    first = file.read(8)
    if first.startswith((b"PK\x03\x04", b"\x80")):
        raise DataError(f"{path}: a pickle (torch.save), which can run code and is not opened; save it as safetensors")
    if len(first) < 8:
        raise DataError(f"{path}: truncated, {size} bytes; copy or download it again")
    length = int.from_bytes(first, "little")
    if not 2 <= length <= HEADER_LIMIT:
        raise DataError(f"{path}: not a safetensors file; give one, as bench and open_clip write them")
    if size < 8 + length:
        raise DataError(f"{path}: truncated, {size:,} bytes end inside the header; copy or download it again")
    with retold(DataError, f"{path}: corrupt header ({{why}}); copy or download it again", ValueError):
        return 8 + length, toml_json.parse_object(file.read(length), most=HEADER_LIMIT)


def write(
    path: Path,
    layout: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
) -> None:
    """Write (name, tensor) pairs, in the order of `layout`, to a safetensors file; all of it appears, or nothing."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, (dtype, shape) in layout.items():
        stop = at + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, stop]}
        at = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data starts at a multiple of eight
    unwritable = f"cannot write {path}: {{why}}; free space or choose another folder"
    with retold(BenchError, unwritable, OSError), atomic.whole(path, synced=True) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, tensor), (expected, (dtype, shape)) in zip(tensors, layout.items(), strict=True):
            if (name, tensor.dtype, tuple(tensor.shape)) != (expected, dtype, shape):
                raise BenchError(f"cannot write {path}: {name!r} came as {tensor.dtype} {tuple(tensor.shape)}")
            file.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
