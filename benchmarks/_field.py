"""The field's own loop, for `benchmarks.gpu`: PIL workers, open_clip's transform and module in float32, AdamW."""

import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from bench.cards.suites import BackboneCard

PREFETCH = 2
"""Batches that every worker has ready."""
ENDLESS = 1 << 30


def cores() -> int:
    """Processor cores that this process may use, at most 16: more readers than that wait for one another."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(known, 16)


class Files(Dataset[tuple[Tensor, int]]):
    """Image files through open_clip's evaluation transform, as the reference code reads them."""

    def __init__(self, files: Sequence[Path], labels: Any, card: BackboneCard) -> None:
        self.files, self.labels = files, labels
        self.transform = image_transform(card.image_size, is_train=False, mean=card.mean, std=card.std)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            return self.transform(image), int(self.labels[index])


Batch = tuple[Tensor, Tensor]


def batches(data: Files, size: int, workers: int, device: torch.device) -> Generator[Batch, None, None]:
    """Batches without end, on the device. One pass that never ends: workers are started once."""
    loader = DataLoader(
        data, size, sampler=RandomSampler(data, replacement=True, num_samples=ENDLESS), num_workers=workers,
        pin_memory=device.type == "cuda", prefetch_factor=PREFETCH if workers else None,
    )  # fmt: skip
    for pixels, labels in loader:
        yield pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def in_order(data: Files, size: int, workers: int, device: torch.device) -> Iterator[Batch]:
    """Every image once, as an evaluation reads them."""
    for pixels, labels in DataLoader(data, size, num_workers=workers, pin_memory=device.type == "cuda"):
        yield pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def steps(found: Iterator[Batch], module: Any, head: Tensor, count: int) -> None:
    """`count` steps as the released code takes them."""
    parameters = list(module.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-6, weight_decay=0.1)
    for _ in range(count):
        pixels, labels = next(found)
        optimiser.zero_grad()
        F.cross_entropy(F.normalize(module(pixels), dim=-1) @ head.T, labels).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
