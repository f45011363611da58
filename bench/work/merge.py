"""One merge: task vectors from the store, the operator's function, and whatever else the operator needs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.errors import BenchError, DataError
from bench.ground.lru import Kept
from bench.store import task_vectors
from bench.store.store import Store
from methods.operator import Operator

HELD = 16


class NotApplicable(BenchError):
    """An operator that cannot take these experts, such as a LoRA space on full fine-tunes; shown, not a failure."""


class Vectors:
    """Task vectors of a store by expert key, read once per process and verified against their recorded hash.

    Keeps the last `HELD` vectors; a merge cell asks for the same eight that its neighbour just used.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: Kept[str, tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]] = Kept(HELD)

    def __call__(self, key: str) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        """`(delta, factors)` of the expert `key`."""
        if key not in self._held:
            data = self._store.read_vector(key)
            expected = self._store.read(key).metrics.get("vector_sha256")
            if task_vectors.sha256(data) != expected:
                raise DataError(
                    f"task vector {self._store.url}/vectors/{key}.safetensors is damaged (its sha256 differs from its "
                    f"record); delete records/{key[:2]}/{key}.parquet and run again"
                )
            self._held[key] = task_vectors.load(data, f"vectors/{key}.safetensors")
        return self._held[key]


Supply = Callable[[str, Sequence[Mapping[str, Tensor]]], Any]
"""`supply(need, deltas)`: an input that an operator needs besides task vectors; see `bench.work.inputs`."""


def merge(
    operator: Operator,
    options: Mapping[str, Any],
    vectors: Vectors,
    experts: Sequence[str],
    *,
    seed: int,
    supply: Supply | None = None,
) -> dict[str, Tensor] | list[dict[str, Tensor]]:
    """The merged task vector of `experts`, one for each task where the operator is `per_task`.

    NotApplicable when the operator needs what these experts do not have.
    """
    loaded = [vectors(key) for key in experts]
    deltas = [delta for delta, _ in loaded]
    inputs: dict[str, Any] = dict(options)
    for need in operator.needs:
        if need == "factors":
            if not all(factors for _, factors in loaded):
                raise NotApplicable(f"{operator.name} needs LoRA factors; these experts were fine-tuned without them")
            inputs[need] = [factors for _, factors in loaded]
        elif supply is not None:
            inputs[need] = supply(need, deltas)
    try:
        merged: dict[str, Tensor] | list[dict[str, Tensor]] = operator.merge(deltas, seed=seed, **inputs)
    except ValueError as error:
        raise BenchError(str(error)) from error
    for vector in [merged] if isinstance(merged, Mapping) else merged:
        for name, tensor in vector.items():
            if not torch.isfinite(tensor).all():
                raise BenchError(
                    f"{operator.name} returned NaN or infinity in {name}; mend the operator or its options"
                )
    return merged
