"""What an expert is trained on: labelled images, checked, and in which order they are seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.pixels.augment import crop
from bench.pixels.images import normalise
from methods.vectors import generator


@dataclass(frozen=True)
class Pictures:
    """What an expert is trained on: tensors or arrays, memory-mapped ones too."""

    images: Any
    """uint8 `[rows, 3, height, width]`"""
    labels: Any
    """integer `[rows]`"""
    mean: Sequence[float] | Tensor
    """Per channel, in units of 0 to 1, as `std`."""
    std: Sequence[float] | Tensor

    def targets(self, classes: int) -> Tensor:
        """The labels as a tensor; BenchError unless they and the images fit each other and a head of `classes`."""
        images, labels = self.images, self.labels
        targets = torch.from_numpy(np.array(labels)).long() if not isinstance(labels, Tensor) else labels.cpu().long()
        if images.dtype not in (torch.uint8, np.uint8) or images.ndim != 4 or images.shape[1] != 3:
            given = f"{images.dtype} {list(images.shape)}"
            raise BenchError(f"fine-tuning: the images are {given}; give uint8 [rows, 3, height, width]")
        if len(images) == 0 or targets.shape != (len(images),):
            raise BenchError(
                f"fine-tuning: {len(images)} images but labels {list(targets.shape)}; give one label for each"
            )
        if int(targets.min()) < 0 or int(targets.max()) >= classes:
            raise BenchError(f"fine-tuning: a label is {int(targets.max())}, the head has {classes} classes")
        return targets

    def on(self, device: str | torch.device) -> "Pictures":
        """The same with mean and std where a tower is; images move batch by batch."""
        mean, std = (
            torch.as_tensor(x, dtype=torch.float32, device=device).reshape(1, 3, 1, 1) for x in (self.mean, self.std)
        )
        return replace(self, mean=mean, std=std)

    def batch(self, rows: Tensor, windows: Tensor | None = None) -> Tensor:
        """The images of these rows as a tower reads them, float32; of each its window alone where there are any."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        pixels = to(_take(self.images, rows), self.mean.device)
        return normalise(pixels if windows is None else crop(pixels, windows), self.mean, self.std)


def batches(rows: int, steps: int, size: int, seed: int) -> Tensor:
    """Row numbers `[steps, size]`: one shuffle after another, cut into batches across their borders.

    Every image is seen once before any is seen twice, and a batch is full even when it is larger than the data set.
    """
    shuffle = generator(seed, "finetune order")
    epochs = math.ceil(steps * size / rows)
    return torch.cat([torch.randperm(rows, generator=shuffle) for _ in range(epochs)])[: steps * size].view(steps, size)


def _take(images: Any, rows: Tensor) -> Tensor:
    """The named rows, from a tensor or from an array (indexing copies, so a read-only map stays untouched)."""
    return images[rows.to(images.device)] if isinstance(images, Tensor) else torch.from_numpy(images[rows.numpy()])


def to(tensor: Tensor, device: str | torch.device) -> Tensor:
    """To a GPU through pinned memory, so that the next batch is read while this one computes."""
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
