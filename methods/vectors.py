"""Arithmetic on task vectors: the only place where two task vectors meet.

A task vector maps parameter names to tensors (expert minus pretrained). Every function here refuses vectors whose
names or shapes differ; nothing is skipped or padded in silence.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

TaskVector = dict[str, Tensor]
Vectors = Sequence[Mapping[str, Tensor]]

CACHED = 1 << 18
"""Entries of one tensor that stay in a core's cache between two operations."""


def check(vectors: Vectors, who: str = "merge", *, entries: bool = True) -> None:
    """Raise ValueError unless all vectors have the same names and shapes and only finite floating-point entries.

    Without `entries`, what the tensors hold is not read.
    """
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
            if entries and not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
                raise ValueError(f"{who}: {name!r} of expert {index} holds NaN or infinity; train that expert again")


def result_dtype(vectors: Vectors, name: str) -> torch.dtype:
    """The dtype the merged tensor `name` is returned in: the widest among the experts."""
    dtype = vectors[0][name].dtype
    for vector in vectors[1:]:
        dtype = torch.promote_types(dtype, vector[name].dtype)
    return dtype


class Mapped(Mapping[str, Tensor]):
    """A read-only view of a task vector in which tensor `name` appears as `function(name, tensor)`.

    Computed on every access and never kept, so a changed task vector costs one tensor of memory and not one model.
    """

    def __init__(self, vector: Mapping[str, Tensor], function: Callable[[str, Tensor], Tensor]) -> None:
        self._vector, self._function = vector, function

    def __getitem__(self, name: str) -> Tensor:
        return self._function(name, self._vector[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._vector)

    def __len__(self) -> int:
        return len(self._vector)


def upcast(vector: Mapping[str, Tensor]) -> Mapped:
    """The task vector with half precision appearing as float32, without gradients."""
    return Mapped(vector, lambda _, x: x.detach().float() if x.dtype.itemsize < 4 else x.detach())


def stack(vectors: Vectors, name: str) -> Tensor:
    """Tensor `name` of all vectors, [tasks, *shape]."""
    return torch.stack([vector[name] for vector in vectors])


def total(vectors: Vectors, name: str) -> Tensor:
    """Sum over tasks of tensor `name`, every entry of the experts read once."""
    first, *rest = (vector[name].reshape(-1).split(CACHED) for vector in vectors)
    out = torch.empty_like(vectors[0][name], memory_format=torch.contiguous_format)
    if not rest:
        return out.copy_(vectors[0][name])
    # Piece by piece, so that the partial sum stays in the core's cache.
    for piece, one, two, *others in zip(out.view(-1).split(CACHED), first, *rest, strict=True):
        torch.add(one, two, out=piece)
        for other in others:
            piece += other
    return out


def per_tensor(function: Callable[..., Tensor]) -> Callable[..., TaskVector]:
    """Lift `f(deltas[tasks, *shape], **options) -> [*shape]` to whole task vectors, one tensor at a time."""

    @functools.wraps(function)
    def merge(vectors: Vectors, **options: object) -> TaskVector:
        return {name: function(stack(vectors, name), **options) for name in vectors[0]}

    return merge


def norm(vector: Mapping[str, Tensor]) -> float:
    """Euclidean norm of a whole task vector, accumulated in double precision."""
    return sum(float(torch.linalg.vector_norm(vector[name])) ** 2 for name in vector) ** 0.5


def chunks(
    vectors: Vectors,
    name: str,
    size: int = 1 << 15,
    stride: int = 1,
    *,
    reuse: bool = False,
    dtype: torch.dtype | None = None,
) -> Iterator[Tensor]:
    """Tensor `name` of all vectors in flat pieces [tasks, <= size], small enough for a core's cache.

    With a stride, only every stride-th entry. Pieces are new tensors that may be changed; with `reuse` each is written
    over the last one, in `dtype` if given: nothing is allocated on the way, and a piece is valid until the next.
    """
    flat = [vector[name].reshape(-1)[::stride] for vector in vectors]
    if not flat[0].numel():
        return
    held = torch.empty(0)
    for pieces in zip(*(x.split(size) for x in flat), strict=True):
        if not reuse:
            yield torch.stack(pieces)
            continue
        if held.shape != (len(pieces), len(pieces[0])):
            held = torch.stack(pieces) if dtype is None else torch.stack(pieces).to(dtype)
        else:
            for row, piece in zip(held, pieces, strict=True):
                row.copy_(piece)
        yield held


def gram(vectors: Vectors, name: str) -> Tensor:
    """Inner products between the tasks' tensors `name`, [tasks, tasks] float64, without stacking them."""
    products = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for wide in chunks(vectors, name, reuse=True, dtype=torch.float64):
        products += wide @ wide.T
    return products


BLOCK = re.compile(r"\.(\d+)\.")


def block(name: str) -> int | None:
    """The transformer block a parameter belongs to (the first number between dots), None outside the blocks."""
    found = BLOCK.search(name)
    return int(found.group(1)) if found else None


def count(vectors: Vectors) -> int:
    """Number of entries of one task vector."""
    return sum(vectors[0][name].numel() for name in vectors[0])


def generator(seed: int, *what: object) -> torch.Generator:
    """A private random generator for one purpose: the same (seed, what) gives the same bits in any order of calls.

    Random operators ask for one per task and tensor, so a merge streamed tensor by tensor equals a merge in memory.
    """
    digest = hashlib.sha256(repr((seed, *what)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
