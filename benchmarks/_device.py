"""What every part of `benchmarks.gpu` needs: a tower on a device, images, clocks, and a step of the real loop."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor

from bench.cards.recipes import settle
from bench.cards.suites import BackboneCard
from bench.pixels.images import Images
from bench.registry.catalogue import load
from bench.work.backbone import Backbone
from bench.work.evaluate import Evaluator
from bench.work.finetune import train
from bench.work.pictures import Pictures
from bench.work.training import Training
from benchmarks import _field as field
from benchmarks import _machine as machine
from benchmarks.images import cached
from methods.vectors import generator

CLASSES = 10
RESIDENT = 0.25  # the default of `bench run`

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain, float32": ("nonlinear", {}),
    "plain, bfloat16": ("nonlinear", {"precision": "bfloat16"}),
    "orthoreg, float32": ("nonlinear+orthoreg", {}),
    "orthoreg, bfloat16, mixed": ("nonlinear+orthoreg", {"precision": "bfloat16", "penalty_precision": "mixed"}),
    "tangent, float32": ("tta", {}),
    "tangent, bfloat16": ("tta", {"precision": "bfloat16"}),
    "tangent, orthoreg, bfloat16": ("tta+orthoreg", {"precision": "bfloat16", "penalty_precision": "mixed"}),
    "lora, bfloat16": ("lora", {"precision": "bfloat16"}),
}


@dataclass(frozen=True)
class Bench:
    """What every part needs: a tower on a device, image files, their decoded pixels, labels and a head."""

    backbone: Backbone
    files: Sequence[Path]
    images: Images
    pixels: Any
    """Those of `images`, on the device where there is one: where `bench run` has them."""
    head: Tensor
    batch: int
    steps: int
    workers: int
    deterministic: bool = True

    @property
    def read(self) -> field.Files:
        """The files as the field reads them."""
        return field.Files(self.files, self.images.labels, self.backbone.card)

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    def seconds(self, work: Callable[[], object]) -> float:
        """Wall time, with the device's queue empty before and after."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_mib(self, work: Callable[[], object]) -> float | None:
        """Largest memory that tensors held while this ran, what was there before included; None without a GPU."""
        if self.device.type != "cuda":
            work()
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return machine.digits(torch.cuda.max_memory_allocated(self.device) / 2**20)

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Kernels as `bench run` asks for them."""
        torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)


def prepare(
    tower: VisionTransformer,
    card: BackboneCard,
    device: str,
    files: Sequence[Path],
    batch: int,
    steps: int,
    workers: int,
    deterministic: bool = True,
) -> Bench:
    """Everything ready: the files decoded once, as the cache of `bench` holds them."""
    base = Backbone(card, (), device=device, model=torch.nn.ModuleDict({"visual": tower}))
    pixels = cached(files, files[0].parent, card.image_size)
    labels = np.random.default_rng(0).integers(0, CLASSES, len(files))
    embed = base.pretrained["proj"].shape[1]
    head = 100 * F.normalize(torch.randn(CLASSES, embed, generator=generator(0, "head")), dim=1).to(device)
    images = Images(pixels, labels)
    near = Evaluator(base, resident=RESIDENT).near(images).pixels
    return Bench(base, files, images, near, head, batch, steps, workers, deterministic)


def ours(bench: Bench, way: str, steps: int) -> None:
    """`steps` steps of the real training loop."""
    name, options = WAYS[way]
    fixed = {"steps": steps, "batch_size": bench.batch, "lr": 1e-6, "strength": 1.0}
    recipe = settle(way, [("", {**fixed, **options})], load().owners([name]))
    card = bench.backbone.card
    with bench.ours():
        train(
            bench.backbone.tower, bench.backbone.pretrained, bench.head,
            Pictures(bench.pixels, bench.images.labels, card.mean, card.std),
            Training.of(recipe, *load().split_finetuning(name)), seed=0, device=bench.device,
        )  # fmt: skip


def a_step(bench: Bench, way: str) -> float:
    """Seconds of one step, once everything is warm."""
    short = bench.seconds(partial(ours, bench, way, 1))
    return max((bench.seconds(partial(ours, bench, way, 1 + bench.steps)) - short) / bench.steps, 1e-9)


def peak(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Floating-point operations a second of a large product, the best of ten."""
    x = torch.randn(size, size, device=device, dtype=dtype)
    x @ x
    return float(2 * size**3 / min(alone(device, lambda: x @ x) for _ in range(10)))


def alone(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of one piece of work on an idle device: between two events on a GPU, so that the call itself is free."""
    if device.type != "cuda":
        return machine.seconds(work)
    torch.cuda.synchronize(device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
