"""A session over a linear tower: features are W x, heads are identities, so every prediction can be worked by hand."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.pixels.images import Images
from bench.work.evaluate import Evaluator
from methods.merging import MERGING

Picture = tuple[tuple[int, int], int]
"""(x_0, x_1), label"""


class LinearTower:
    """features = W x"""

    plain = False

    def __call__(self, params: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
        return pixels.flatten(1) @ params["w"].T

    def dual(
        self, params: Mapping[str, Tensor], tangent: Mapping[str, Tensor], pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self(params, pixels), self(tangent, pixels)

    def frozen(self, params: Mapping[str, Tensor]) -> Any:
        return partial(self, params)

    def frozen_dual(self, params: Mapping[str, Tensor], tangent: Mapping[str, Tensor]) -> Any:
        return partial(self.dual, params, tangent)


def pictures(found: Sequence[Picture]) -> Images:
    pixels = np.array([x for x, _ in found], dtype=np.uint8).reshape(-1, 1, 1, 2)
    return Images(pixels, np.array([y for _, y in found], dtype=np.int64))


class LinearSession:
    """What a kind asks of `bench.kinds.session.Session`. `sets`: pictures by (task, split); `vectors`: the update of W
    by key.
    """

    def __init__(
        self,
        sets: dict[tuple[str, str], Sequence[Picture]],
        vectors: dict[str, Any],
        *,
        tower: Any = None,
        base: Any = None,
        prune: bool = False,
    ) -> None:
        backbone = SimpleNamespace(
            tower=tower or LinearTower(),
            pretrained={"w": torch.eye(2)} if base is None else base,
            device=torch.device("cpu"),
            normalise=lambda pixels: pixels.float(),
        )
        self._evaluator, self._sets, self._vectors = Evaluator(backbone, batch_size=2), sets, vectors
        self.registry = SimpleNamespace(operator=MERGING.__getitem__)
        self.prune = prune
        self.asked: list[tuple[str, str]] = []

    def evaluator(self, cell: Any) -> Evaluator:
        return self._evaluator

    def tangent(self, finetuning: str) -> bool:
        return finetuning.startswith("tta")

    def vectors(self, key: str) -> tuple[dict[str, Tensor], dict]:
        vector = self._vectors[key]
        return (vector if isinstance(vector, dict) else {"w": torch.tensor(vector)}), {}

    def image_sets(self, cell: Any, tasks: Any, split: str) -> list[tuple[Images, Tensor]]:
        self.asked += [(task, split) for task, _ in tasks]
        return [(pictures(self._sets[task, split]), torch.eye(2)) for task, _ in tasks]

    def expert_accuracy(self, experts: Sequence[str], split: str) -> dict[str, float]:
        raise AssertionError("this kind has a reference of its own")
