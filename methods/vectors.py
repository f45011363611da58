"""Arithmetic on task vectors: the only place where two task vectors meet.

A task vector maps parameter names to tensors (expert minus pretrained). Every function here refuses vectors whose
names or shapes differ; nothing is skipped or padded in silence.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

TaskVector = dict[str, Tensor]
Vectors = Sequence[Mapping[str, Tensor]]


def check(vectors: Vectors, who: str = "merge") -> None:
    """Raise ValueError unless all vectors have the same names and shapes and only finite floating-point entries."""
    first = vectors[0]
    for index, vector in enumerate(vectors[1:], start=1):
        odd = sorted(first.keys() ^ vector.keys())
        if odd:
            where = "is only in the others" if odd[0] not in vector else "is in no other"
            raise ValueError(
                f"{who}: cannot combine, {len(odd)} names differ; first {odd[0]!r} of expert {index} {where}"
            )
        odd = [name for name in first if first[name].shape != vector[name].shape]
        if odd:
            raise ValueError(
                f"{who}: cannot combine, {len(odd)} parameter(s) differ in shape; first {odd[0]!r} is "
                f"{tuple(first[odd[0]].shape)} in expert 0 and {tuple(vector[odd[0]].shape)} in expert {index}"
            )
    for index, vector in enumerate(vectors):
        for name in first:
            tensor = vector[name]
            if not tensor.is_floating_point():
                raise ValueError(f"{who}: {name!r} of expert {index} is {tensor.dtype}; leave integer buffers out")
            # A sum is one pass and needs no memory; only when it is not finite do we look at every entry.
            if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
                raise ValueError(f"{who}: {name!r} of expert {index} holds NaN or infinity; train that expert again")


def result_dtype(vectors: Vectors, name: str) -> torch.dtype:
    """The dtype the merged tensor `name` is returned in: the widest among the experts."""
    dtype = vectors[0][name].dtype
    for vector in vectors[1:]:
        dtype = torch.promote_types(dtype, vector[name].dtype)
    return dtype


class Upcast(Mapping[str, Tensor]):
    """A read-only view of a task vector in which half precision appears as float32, converted on access."""

    def __init__(self, vector: Mapping[str, Tensor]) -> None:
        self._vector = vector

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._vector[name].detach()
        return tensor.float() if tensor.dtype.itemsize < 4 else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._vector)

    def __len__(self) -> int:
        return len(self._vector)


def stack(vectors: Vectors, name: str) -> Tensor:
    """Tensor `name` of all vectors, [tasks, *shape]."""
    return torch.stack([vector[name] for vector in vectors])


def total(vectors: Vectors, name: str) -> Tensor:
    """Sum over tasks of tensor `name`, added in place into one new tensor."""
    out = vectors[0][name].clone()
    for vector in vectors[1:]:
        out += vector[name]
    return out


def pack(vectors: Vectors) -> tuple[Tensor, Callable[[Tensor], TaskVector]]:
    """All vectors as one matrix [tasks, parameters], and the function that turns a row back into a task vector."""
    shapes = {name: vectors[0][name].shape for name in vectors[0]}

    def unpack(row: Tensor) -> TaskVector:
        parts = row.split([shape.numel() for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    return torch.stack([torch.cat([vector[name].reshape(-1) for name in shapes]) for vector in vectors]), unpack


def per_tensor(function: Callable[..., Tensor]) -> Callable[..., TaskVector]:
    """Lift `f(deltas[tasks, *shape], **options) -> [*shape]` to whole task vectors, one tensor at a time."""

    def merge(vectors: Vectors, **options: object) -> TaskVector:
        return {name: function(stack(vectors, name), **options) for name in vectors[0]}

    merge.__doc__ = function.__doc__
    return merge


def norm(vector: Mapping[str, Tensor]) -> float:
    """Euclidean norm of a whole task vector, accumulated in double precision."""
    return sum(float(torch.linalg.vector_norm(vector[name])) ** 2 for name in vector) ** 0.5


def chunks(vectors: Vectors, name: str, size: int = 1 << 15) -> Iterator[Tensor]:
    """Tensor `name` of all vectors in flat pieces [tasks, <= size], small enough to stay in a core's cache."""
    flat = [vector[name].reshape(-1) for vector in vectors]
    for start in range(0, max(flat[0].numel(), 1), size):
        yield torch.stack([x[start : start + size] for x in flat])


def generator(seed: int, *what: object) -> torch.Generator:
    """A private random generator for one purpose: the same (seed, what) gives the same bits in any order of calls.

    Random operators ask for one per task and tensor, so a merge streamed tensor by tensor equals a merge in memory.
    """
    digest = hashlib.sha256(repr((seed, *what)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
