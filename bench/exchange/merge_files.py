"""Out-of-core merge: experts in safetensors files, one tensor in memory at a time.

Per-tensor operators hold one tensor of every expert and write it merged before they read the next; global ones (TIES
and other whole-model ranks) read the files once or twice more and hold the merged vector. An expert is a task vector as
bench writes it, or, with `pretrained`, also a whole checkpoint, whose update is checkpoint minus pretrained.
Checkpoints of a whole CLIP count with their image tower only: the frozen text tower would change what "the largest
20 %" means.
"""

import functools
import json
import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.errors import BenchError, DataError
from bench.exchange.tensorfile import TensorFile, write
from bench.store.task_vectors import FACTOR_A, FACTOR_B, FORMAT
from methods.modifiers import resolve
from methods.operator import Operator

VISUAL = "visual."
Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]


class Expert(Mapping[str, Tensor]):
    """The task vector in a file, read tensor by tensor; named as in open_clip's image tower, without `visual.`."""

    def __init__(self, path: str | Path, pretrained: TensorFile | None) -> None:
        self.file = TensorFile(_single(Path(path)))
        self.path = self.file.path
        self._base: TensorFile | None = None
        prefix = ""
        names = [name for name in self.file if not name.startswith((FACTOR_A, FACTOR_B))]
        if self.file.metadata.get("format") != FORMAT:
            if pretrained is None:
                raise DataError(f"{self.path}: a checkpoint and not a task vector of bench; give --pretrained as well")
            self._base = pretrained
            prefix = VISUAL if any(name.startswith(VISUAL) for name in names) else ""
            # buffers such as step counters are no parameters
            names = [n for n in names if n.startswith(prefix) and self.file.dtypes[n].is_floating_point]
        self._names = {name.removeprefix(prefix): name for name in names}
        self.shapes = {name: self.file.shapes[stored] for name, stored in self._names.items()}

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.file[self._names[name]]
        if self._base is None:
            return tensor
        return tensor.float() - self._base[_stored(self._base.shapes, name)].float()

    def __contains__(self, name: object) -> bool:  # without reading the tensor
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def factors(self, names: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """The LoRA factors (B, A) of those of the named tensors that have any."""
        return {
            n: (self.file[FACTOR_B + n], self.file[FACTOR_A + n]) for n in names if FACTOR_B + n in self.file.shapes
        }

    def dtype(self, name: str) -> torch.dtype:
        """What the task vector holds: the file's dtype, or float32 for a difference of checkpoints."""
        return self.file.dtypes[self._names[name]] if self._base is None else torch.float32


def merge_files(
    operator: str | Operator,
    options: Mapping[str, Any],
    experts: Sequence[str | Path],
    out: str | Path,
    *,
    pretrained: str | Path | None = None,
    scaling: float = 1.0,
    seed: int = 0,
) -> Path:
    """Merge expert files into `out` and return its path.

    `operator` is a name as in tables (`ties`, `tsv_m@core~lines`). With `pretrained`, a safetensors file of the image
    tower or of a whole open_clip model, `out` is pretrained + scaling * merged under the same names and dtypes, which
    open_clip loads as it is; without, `out` is the task vector scaling * merged. The file appears whole or not at all.
    BenchError in one line: names or shapes that differ, NaN, bad options, too few experts, damaged files, pickles,
    operators that need data or the task id.
    """
    out = Path(out)
    base = None
    try:
        if not math.isfinite(scaling):
            raise ValueError(f"scaling {scaling} is not a finite number; 1 adds the merged vector as it is")
        if out.is_dir():
            raise ValueError(f"{out} is a folder; name the file to write, ending in .safetensors")
        way = applicable(operator, options, len(experts))
        base = TensorFile(_single(Path(pretrained))) if pretrained is not None else None
        vectors = [Expert(path, base) for path in experts]
        for file in [v.path for v in vectors] + ([base.path] if base is not None else []):
            if out.exists() and out.samefile(file):
                raise ValueError(f"{out} is one of the files to merge, which stay as they are; name another to write")
        _agree(vectors, base)
        layout = _layout(vectors, base)
        merged = Merged(way, options, vectors, seed)
        about = _metadata(way, options, vectors, scaling, base)
        write(out, layout, _finished(merged, vectors, base, scaling, layout), about)
    except ValueError as error:
        raise BenchError(_with_files(str(error), experts, base)) from error
    return out


def applicable(operator: str | Operator, options: Mapping[str, Any], experts: int) -> Operator:
    """The operator, once it is known to merge so many experts from their task vectors alone; ValueError if not."""
    way = resolve(operator) if isinstance(operator, str) else operator
    if way.per_task:
        raise ValueError(f"{way.name}: merges to one model per task; run it through `bench run`")
    unmet = [need for need in way.needs if need != "factors"]
    if unmet:
        raise ValueError(f"{way.name}: not applicable to files, it needs {unmet[0]!r}; run it through `bench run`")
    way.options(options)
    if not experts:
        raise ValueError(f"{way.name}: needs at least {max(1, way.minimum_tasks)} experts, got 0")
    return way


def _single(path: Path) -> Path:
    """The safetensors file meant by a path: itself, or the only one in a folder."""
    if not path.is_dir():
        return path
    files = sorted(p for p in path.glob("*.safetensors") if not p.name.startswith("."))
    if len(files) != 1:
        raise DataError(f"{path}: {len(files)} safetensors files in this folder; name one file")
    return files[0]


def _stored(names: Container[str], name: str) -> str:
    """How a file calls a tensor of the image tower; a whole CLIP has a text tower that uses the bare name too."""
    return VISUAL + name if VISUAL + name in names else name


def _agree(vectors: Sequence[Expert], base: TensorFile | None) -> None:
    """DataError with files and tensor where names or shapes differ."""
    first = vectors[0]
    for other in vectors[1:]:
        odd = sorted(first.keys() ^ other.keys())
        if odd:
            has, lacks = (first, other) if odd[0] in first else (other, first)
            raise DataError(
                f"cannot merge: {lacks.path} has no tensor {odd[0]!r} that {has.path} has ({len(odd)} names differ); "
                "merge experts of one backbone and one fine-tuning method"
            )
    for other in (*vectors[1:], *([base] if base is not None else ())):
        for name, shape in first.shapes.items():
            stored = _stored(other.shapes, name)
            if stored not in other.shapes:
                raise DataError(
                    f"cannot merge: {other.path} has no tensor {name!r}; give the backbone the experts come from"
                )
            if other.shapes[stored] != shape:
                raise DataError(
                    f"cannot merge: {name!r} is {shape} in {first.path} and {other.shapes[stored]} in {other.path}; "
                    "give experts and weights of one backbone"
                )


def _layout(vectors: Sequence[Expert], base: TensorFile | None) -> Layout:
    if base is not None:
        return {name: (base.dtypes[name], base.shapes[name]) for name in base}
    return {
        name: (functools.reduce(torch.promote_types, [vector.dtype(name) for vector in vectors]), shape)
        for name, shape in vectors[0].shapes.items()
    }


class Merged:
    """The merged tensors by name: looked up where the whole was merged, else merged when asked for."""

    def __init__(self, way: Operator, options: Mapping[str, Any], vectors: Sequence[Expert], seed: int) -> None:
        self._way, self._options, self._vectors, self._seed = way, options, vectors, seed
        self._whole = None if way.per_tensor else self._merge(vectors, list(vectors[0]))

    def take(self, name: str) -> Tensor:
        """The merged tensor, once."""
        if self._whole is not None:
            return self._whole.pop(name)
        return self._merge([{name: vector[name]} for vector in self._vectors], [name])[name]

    def _merge(self, vectors: Sequence[Mapping[str, Tensor]], names: Sequence[str]) -> dict[str, Tensor]:
        inputs = dict(self._options)
        if "factors" in self._way.needs:
            inputs["factors"] = [vector.factors(names) for vector in self._vectors]
        merged: dict[str, Tensor] = self._way.merge(list(vectors), seed=self._seed, **inputs)
        return merged


def _finished(
    merged: Merged, vectors: Sequence[Expert], base: TensorFile | None, scaling: float, layout: Layout
) -> Iterator[tuple[str, Tensor]]:
    trained = {_stored(layout, name): name for name in vectors[0]}
    for name, (dtype, _) in layout.items():
        if base is None:
            yield name, (merged.take(name) * scaling).to(dtype)
        elif name in trained:
            weight = base[name]
            yield name, (weight.float() + scaling * merged.take(trained[name]).float()).to(dtype)
        else:
            yield name, base[name]


def _metadata(
    way: Operator, options: Mapping[str, Any], vectors: Sequence[Expert], scaling: float, base: TensorFile | None
) -> dict[str, str]:
    """Names and no paths: a file says how it was made, not where."""
    about = {
        "operator": way.name,
        "options": way.defaults | dict(options),
        "version": way.version,
        "scaling": scaling,
        "experts": [v.path.name if v.path.name != "model.safetensors" else v.path.parent.name for v in vectors],
    }
    if base is not None:
        about["pretrained"] = base.path.name
    return {"format": "pt" if base is not None else FORMAT, "about": json.dumps(about, sort_keys=True)}


def _with_files(message: str, experts: Sequence[str | Path], base: TensorFile | None) -> str:
    """Operators count experts; people know files. NaN in a difference may come from the pretrained side."""
    named = re.search(r"'([^']+)' of expert \d+ holds NaN", message)
    if base is not None and named and not torch.isfinite(base[_stored(base.shapes, named[1])]).all():
        return f"{base.path}: {named[1]!r} holds NaN or infinity; give the weights the experts come from"
    return re.sub(r"expert (\d+)", lambda m: str(experts[int(m[1])]) if int(m[1]) < len(experts) else m[0], message)
