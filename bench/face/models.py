"""Tensors of one's own: `bench.merge`, `bench.evaluate`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.cards import suites
from bench.cards.datasets import Split
from bench.errors import BenchError, UnknownName
from bench.exchange.merge_files import VISUAL, applicable, merge_files
from bench.exchange.tensorfile import TensorFile
from bench.ground import metrics
from bench.pixels import images
from bench.store.task_vectors import FACTOR_A, FACTOR_B, FORMAT
from bench.work import backbone as backbones
from bench.work import runtime
from bench.work.backbone import Backbone
from bench.work.evaluate import Evaluator
from bench.work.runtime import How
from methods.operator import Operator

Weights = Mapping[str, Tensor] | str | Path


@overload
def merge(
    experts: Sequence[Weights],
    operator: str | Operator = ...,
    options: Mapping[str, Any] | None = ...,
    *,
    pretrained: Weights | None = ...,
    scaling: float = ...,
    seed: int = ...,
    out: None = ...,
) -> dict[str, Tensor]: ...


@overload
def merge(
    experts: Sequence[str | Path],
    operator: str | Operator = ...,
    options: Mapping[str, Any] | None = ...,
    *,
    pretrained: str | Path | None = ...,
    scaling: float = ...,
    seed: int = ...,
    out: str | Path,
) -> Path: ...


def merge(
    experts: Sequence[Any],
    operator: str | Operator = "ties",
    options: Mapping[str, Any] | None = None,
    *,
    pretrained: Any = None,
    scaling: float = 1.0,
    seed: int = 0,
    out: str | Path | None = None,
) -> dict[str, Tensor] | Path:
    """Merge experts: state dicts or safetensors files, in memory or from files to a file. Nothing is trained or tested.

    Args:
        experts: task vectors (expert minus pretrained) by name, all with the same names and shapes; or, where
            `pretrained` is given, whole state dicts. A file that bench wrote is a task vector in either case.
        operator: a name such as "ties" or "tsv_m~lines", or an `Operator` of one's own.
        options: of the operator, as `bench show OPERATOR` lists them.
        pretrained: what the experts were fine-tuned from.
        scaling: factor on the merged vector.
        seed: of random operators.
        out: file to write, one tensor in memory at a time where the operator allows; then all must be files.

    Returns:
        scaling * merged, or pretrained + scaling * merged where that was given, in its names and dtypes; with `out`,
        the path.

    Raises:
        BenchError: names or shapes that differ, NaN, an unknown option, an operator that needs more than task vectors.

    Example:
        >>> import bench, torch
        >>> bench.merge([{"w": torch.tensor([1.0, 3.0])}, {"w": torch.tensor([3.0, 5.0])}], "average")
        {'w': tensor([2., 4.])}
    """
    if out is not None:
        return merge_files(operator, options or {}, experts, out, pretrained=pretrained, scaling=scaling, seed=seed)
    base = None if pretrained is None else _read(pretrained)[0]
    try:
        if not math.isfinite(scaling):
            raise ValueError(f"scaling {scaling} is not a finite number; 1 adds the merged vector as it is")
        way = applicable(operator, options or {}, len(experts))
        merged = way.merge([_update(expert, base) for expert in experts], seed=seed, **(options or {}))
    except ValueError as error:
        raise BenchError(str(error)) from error
    if base is None:
        return {name: scaling * tensor for name, tensor in merged.items()}
    moved = {n: (p.float() + scaling * merged[n].float()).to(p.dtype) for n, p in base.items() if n in merged}
    return {**base, **moved}


@dataclass(frozen=True)
class Tested:
    """What a model got right on one split of one task."""

    task: str
    correct: int
    total: int
    right: NDArray[np.bool_] = field(repr=False)
    """Of every image, in the order of the split: two models can be paired by it."""

    @property
    def accuracy(self) -> float:
        """From 0 to 1."""
        return metrics.accuracy(self.correct, self.total)


def evaluate(
    weights: Weights,
    suite: str = "mini8",
    tasks: Iterable[str] | None = None,
    *,
    backbone: str = "",
    split: Split = "test",
    scaling: float | None = None,
    tangent: bool = False,
    **how: Any,
) -> dict[str, Tested]:
    """The accuracy of an image tower on the tasks of a suite, with the suite's frozen zero-shot heads.

    Args:
        weights: a state dict or a safetensors file of the whole image tower, names as in open_clip with or without
            `visual.`; or a task vector: a file that bench wrote, or any with `scaling`.
        suite: where tasks, classes and backbone are declared.
        tasks: some of the suite's; by default all.
        backbone: what the weights belong to; by default the suite's first.
        split: "train", "validation" or "test".
        scaling: `weights` is a task vector; evaluate pretrained + scaling * vector.
        tangent: evaluate the task vector as a tangent model, as `tta` experts are.
        how: fields of `bench.work.runtime.How`, such as device or batch_size.

    Returns:
        By task: correct, total, accuracy and, image by image, what is right.

    Raises:
        BenchError, DataError: names or shapes that are not the backbone's, unknown tasks, images that are not here.

    Example:
        >>> import bench
        >>> from bench.work import backbone
        >>> tower = backbone.load("mini", ()).pretrained
        >>> round(100 * bench.evaluate(tower, tasks=["digits"])["digits"].accuracy)
        60
    """
    chosen, choices = suites.load(suite), How(**how)
    names = tuple(tasks) if tasks is not None else tuple(chosen.tasks)
    for name in names:
        if name not in (*chosen.tasks, chosen.control):
            raise UnknownName(f"task of suite {suite}", name, (*chosen.tasks, chosen.control))
    cards = [chosen.card(name) for name in names]
    tensors, is_vector = _read(weights)
    if tangent and not (is_vector or scaling is not None):
        raise BenchError("a tangent model needs a task vector; subtract the pretrained weights and give scaling=1.0")
    with runtime.settings_kept():
        runtime.settle(choices)
        base = backbones.load(backbone or chosen.backbones[0], cards, device=choices.device, fast=choices.fast)
        whole = not (is_vector or scaling is not None)
        _fits(tensors, base, whole)
        evaluator = Evaluator(base, choices.batch_size, choices.resident)
        sets = [(images.load(card, split, base.card.image_size), base.heads[card.name]) for card in cards]
        if whole:
            bits = evaluator.correct({n: tensors[n].float().to(base.device) for n in base.pretrained}, *sets)
        else:
            (bits,) = evaluator.sweep(tensors, (1.0 if scaling is None else scaling,), sets, tangent=tangent)
    return {n: Tested(n, int(right.sum()), len(right), right.numpy()) for n, right in zip(names, bits, strict=True)}


def _read(weights: Weights) -> tuple[dict[str, Tensor], bool]:
    """Tensors of the image tower by open_clip's names without `visual.`, and whether a file says they are an update."""
    is_vector = False
    if isinstance(weights, str | Path):
        file = TensorFile(weights)
        is_vector = file.metadata.get("format") == FORMAT
        weights = {name: file[name] for name in file if not name.startswith((FACTOR_A, FACTOR_B))}
    prefix = VISUAL if any(name.startswith(VISUAL) for name in weights) else ""
    return {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}, is_vector


def _update(expert: Weights, base: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    tensors, is_vector = _read(expert)
    if base is None or is_vector:
        return tensors
    odd = sorted(n for n, t in tensors.items() if n not in base or base[n].shape != t.shape)
    if odd:
        raise ValueError(f"the pretrained weights have no {odd[0]!r} of the expert's shape; give those it comes from")
    return {n: t.float() - base[n].float() for n, t in tensors.items() if t.is_floating_point()}


def _fits(tensors: Mapping[str, Tensor], base: Backbone, whole: bool) -> None:
    name = base.card.name
    lacking = sorted(base.pretrained.keys() - tensors.keys()) if whole else []
    if lacking:
        raise BenchError(
            f"the weights lack {lacking[0]!r} of {name}; give a whole image tower, or scaling for a vector"
        )
    known = base.pretrained if not whole else {n: base.pretrained[n] for n in tensors if n in base.pretrained}
    for n, tensor in tensors.items():
        if n not in known and not whole:
            raise BenchError(f"the vector has {n!r}, which is no parameter of {name}; give the backbone it belongs to")
        if n in known and tensor.shape != known[n].shape:
            was, should = tuple(tensor.shape), tuple(known[n].shape)
            raise BenchError(f"{n!r} has the shape {was}, in {name} it is {should}; give the backbone it belongs to")
