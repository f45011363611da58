"""Installed peers as references for `benchmarks.merging`: mergekit and FusionBench, through their own functions.

Neither is needed: what is not installed has no rows. Both want large packages, so give them a folder of their own

    uv pip install --target peers --no-deps mergekit==0.1.5         and what its import asks for
    PYTHONPATH=peers:. python -m benchmarks.merging

mergekit merges models: it subtracts a base from every input and adds it again. Where a method of it needs a base, ours
is timed with the same subtraction and addition, tensor by tensor. Its TIES and breadcrumbs rank each tensor for itself,
which is `scope="tensor"` here. The density is a quarter, a whole number of entries of every tensor, so that rounding
down (mergekit) and to the nearest (here) keep the same entries. FusionBench's functions take task vectors, and so do
ours there; its TIES keeps one entry more than it is asked for, so it is asked for one less.

Before anything is timed, `agree` merges small vectors in both ways: results must be equal to rounding, and those of
random operators must have the same norm.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import torch

from methods.merging import MERGING
from methods.merging.ties import kept_count
from methods.vectors import TaskVector, norm

ROUNDING = 1e-4
"""Largest relative L2 distance of two results that are the same but for rounding (float32 SVDs are good to 1e-5)."""
CHANCE = 0.05
"""The same for the norms of two random draws."""


@dataclass(frozen=True)
class Peer:
    """One operator that a peer has too: our options that make it the same, and the peer's call on task vectors."""

    operator: str
    theirs: Callable[[list[TaskVector]], TaskVector]
    options: dict[str, Any] = field(default_factory=dict)
    base: bool = False  # models in and a model out, on both sides

    def ours(self, vectors: list[TaskVector]) -> TaskVector:
        """Our operator on the same input; where the peer has a base, tensor by tensor as `bench merge` streams."""
        merge = partial(MERGING[self.operator].merge, **self.options)
        if not self.base:
            found: TaskVector = merge(vectors)
            return found
        models: TaskVector = {}
        for name, start in zeros(vectors[0]).items():
            merged = merge([{name: vector[name] - start} for vector in vectors])
            models[name] = merged[name].add_(start)
        return models

    def gap(self, vectors: list[TaskVector]) -> float:
        """How far apart the two results are: relative L2 distance, or the relative difference of norms if random."""
        mine, other = self.ours(vectors), self.theirs(vectors)
        if MERGING[self.operator].random:
            return abs(norm(mine) / norm(other) - 1)
        return norm({name: mine[name] - other[name] for name in mine}) / norm(other)


def zeros(like: TaskVector) -> TaskVector:
    """A pretrained model of the same shapes: adding zero leaves results comparable to the last bit."""
    return {name: torch.zeros_like(x) for name, x in like.items()}


def agree(peer: Peer, vectors: list[TaskVector]) -> None:
    """ValueError unless both compute the same thing on these vectors."""
    gap, random = peer.gap(vectors), MERGING[peer.operator].random
    if not gap < (CHANCE if random else ROUNDING):
        raise ValueError(f"{peer.operator}: ours and the peer's differ by {gap:.2g}, so their times say nothing")


def peers() -> dict[str, Peer]:
    """Every comparison that can be made here, by the name of its row."""
    return mergekit() | fusion_bench()


def mergekit() -> dict[str, Peer]:
    """mergekit's merge methods, empty where it is not installed."""
    try:
        from mergekit.merge_methods import merge_state_dicts
    except ImportError:
        return {}

    def method(name: str, base: bool = True, **parameters: Any) -> Callable[[list[TaskVector]], TaskVector]:
        def merge(vectors: list[TaskVector]) -> TaskVector:
            models = {str(task): vector for task, vector in enumerate(vectors)}
            first = {"base": zeros(vectors[0])} if base else {}
            with torch.no_grad():
                found: TaskVector = merge_state_dicts(
                    first | models, name, base="base" if base else None, parameters=parameters
                )
            return found

        return merge

    one: dict[str, Any] = {"weight": 1.0}
    ties: dict[str, Any] = {"scope": "tensor", "zero_sign": "plus"}
    rows = (
        Peer("task_arithmetic", method("linear", base=False, normalize=False, **one)),
        Peer("ties", method("ties", density=0.25, **one), {"density": 0.25} | ties, base=True),
        Peer("ties_sum", method("ties", density=0.25, normalize=False, **one), {"density": 0.25} | ties, base=True),
        Peer("dare", method("dare_linear", density=0.1, **one), {"drop": 0.9, "rescale": "l1"}, base=True),
        Peer(
            "dare_ties",
            method("dare_ties", density=0.5, normalize=True, **one),
            {"drop": 0.5, "rescale": "l1", "density": 1.0} | ties,
            base=True,
        ),
        Peer("della", method("della", density=0.5, epsilon=0.15, **one), {"rescale": "l1"}, base=True),
        Peer(
            "breadcrumbs",
            method("breadcrumbs", density=0.25, gamma=0.01, **one),
            {"density": 0.25, "top": 0.01, "scope": "tensor"},
            base=True,
        ),
        Peer("karcher", method("karcher", base=False)),
        Peer("model_stock", method("model_stock"), base=True),
        Peer("sce", method("sce"), base=True),
    )
    return {f"{row.operator} (mergekit)": row for row in rows}


def fusion_bench() -> dict[str, Peer]:
    """FusionBench's functions, empty where it is not installed."""
    try:
        method = partial(import_module, package="fusion_bench.method")
        drop = method(".dare.utils").module_random_drop_
        iso = method(".isotropic_merging.iso_utils")
        select = method(".magmax.magmax")._magmax_select
        tsv_m = method(".task_singular_vector.utils.TSVM_utils").compute_and_sum_svd_mem_reduction
        flat = method(".ties_merging.ties_merging_utils")
        add = import_module("fusion_bench.utils.state_dict_arithmetic").state_dict_sum
    except ImportError:
        return {}

    def quiet(function: Callable[[list[TaskVector]], TaskVector]) -> Callable[[list[TaskVector]], TaskVector]:
        def merge(vectors: list[TaskVector]) -> TaskVector:
            with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
                return function(vectors)

        return merge

    def ties(vectors: list[TaskVector], how: str) -> TaskVector:
        rows = torch.vstack([flat.state_dict_to_vector(v) for v in vectors])
        share = (kept_count(MERGING["ties"].defaults["density"], rows.shape[1]) - 0.5) / rows.shape[1]
        merged = flat.ties_merging(rows, reset_thresh=share, merge_func=how)
        found: TaskVector = flat.vector_to_state_dict(merged, vectors[0])
        return found

    def dare(vectors: list[TaskVector]) -> TaskVector:
        kept = [{name: x.detach() for name, x in v.items()} for v in vectors]  # it rebinds what it is given
        for vector in kept:
            drop(vector, 0.9, rescale=True)
        found: TaskVector = add(kept)
        return found

    rows = (
        Peer("task_arithmetic", quiet(add)),
        Peer("ties", quiet(partial(ties, how="mean"))),
        Peer("ties_sum", quiet(partial(ties, how="sum"))),
        Peer("dare", quiet(dare), {"drop": 0.9}),
        Peer("magmax", quiet(select)),
        Peer("tsv_m", quiet(partial(tsv_m, accelerator="cpu"))),
        Peer("iso_c", quiet(partial(iso.iso_c, accelerator="cpu"))),
        Peer("iso_cts", quiet(partial(iso.iso_cts, common_space_fraction=0.8, accelerator="cpu"))),
    )
    return {f"{row.operator} (FusionBench)": row for row in rows}
