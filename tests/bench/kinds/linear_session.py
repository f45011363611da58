"""A session over a linear tower: features are W x, heads are identities, so every prediction can be worked by hand.

It keeps what a kind asked for: images by task and split, cards, experts' accuracies by split.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.pixels.images import Images
from bench.registry.live import Registry
from bench.work.evaluate import Evaluator
from methods.finetuning import FINETUNING
from methods.merging import MERGING
from methods.operator import Operator

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


class Squared(LinearTower):
    """features = (W x)^2, with derivative 2 (W x) (dW x)"""

    def __call__(self, params: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
        return super().__call__(params, pixels) ** 2

    def dual(
        self, params: Mapping[str, Tensor], tangent: Mapping[str, Tensor], pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        x = pixels.flatten(1)
        return self(params, pixels), 2 * (x @ params["w"].T) * (x @ tangent["w"].T)


def pictures(found: Sequence[Picture]) -> Images:
    pixels = np.array([x for x, _ in found], dtype=np.uint8).reshape(-1, 1, 1, 2)
    return Images(pixels, np.array([y for _, y in found], dtype=np.int64))


class LinearSession:
    """What a kind asks of `bench.kinds.session.Session`.

    sets: pictures by (task, split)
    vectors: the update of W by key of an expert
    operators: merging operators beside the built-in ones
    accuracy: what `expert_accuracy` answers, by split
    """

    def __init__(
        self,
        sets: Mapping[tuple[str, str], Sequence[Picture]],
        vectors: Mapping[str, Any],
        *,
        tower: Any = None,
        base: Any = None,
        prune: bool = False,
        operators: Sequence[Operator] = (),
        accuracy: Mapping[str, Mapping[str, float]] | None = None,
        store: Any = None,
    ) -> None:
        backbone = SimpleNamespace(
            tower=tower or LinearTower(),
            pretrained={"w": torch.eye(2)} if base is None else base,
            device=torch.device("cpu"),
            normalise=lambda pixels: pixels.float(),
            card=SimpleNamespace(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
        )
        self._evaluator, self._sets, self._vectors = Evaluator(backbone, batch_size=2), sets, vectors
        self.registry = Registry(MERGING | {op.name: op for op in operators}, dict(FINETUNING))
        self.prune, self.store = prune, store
        self._accuracy = accuracy
        self.asked: list[tuple[str, str]] = []
        """(task, split) of all images, in order"""
        self.cards: list[tuple[str, str]] = []
        """(task, card fingerprint) of the same"""
        self.referred: list[tuple[tuple[str, ...], str]] = []
        """(experts, split) of the accuracies that were asked for"""

    def evaluator(self, cell: Any) -> Evaluator:
        return self._evaluator

    def tangent(self, finetuning: str) -> bool:
        return finetuning.startswith("tta")

    def checkpoint(self, cell: Any) -> str:
        return f"checkpoint of {cell.key}"

    def vectors(self, key: str) -> tuple[dict[str, Tensor], dict]:
        vector = self._vectors[key]
        return (vector if isinstance(vector, dict) else {"w": torch.tensor(vector)}), {}

    def images(self, cell: Any, task: str, fingerprint: str, split: str) -> tuple[Images, Tensor]:
        self.asked.append((task, split))
        self.cards.append((task, fingerprint))
        return pictures(self._sets[task, split]), torch.eye(2)

    def image_sets(self, cell: Any, tasks: Any, split: str) -> list[tuple[Images, Tensor]]:
        return [self.images(cell, task, fingerprint, split) for task, fingerprint in tasks]

    def expert_accuracy(self, experts: Sequence[str], split: str) -> Mapping[str, float]:
        assert self._accuracy is not None, "this kind has a reference of its own"
        self.referred.append((tuple(experts), split))
        return self._accuracy[split]
