"""Measure what cells cost on this device: `bench calibrate` fills the table that `bench plan` reads
(`bench.plan.costs`).

Random images, and random weights where the released ones are not here: neither changes a matrix product's time. A step
is timed as the difference of two runs of the real training loop, which leaves out everything that happens once.
"""

import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.cards import suites
from bench.cards.recipes import Recipe
from bench.errors import BenchError
from bench.pixels.images import Images
from bench.plan.costs import Costs
from bench.registry.catalogue import Catalogue
from bench.store import task_vectors
from bench.work import backbone, finetune, weights
from bench.work.backbone import Backbone
from bench.work.evaluate import Evaluator
from bench.work.runtime import How, settle

CLASSES = 10


def measure(
    name: str,
    catalogue: Catalogue,
    *,
    methods: Sequence[str],
    batch: int = 0,
    steps: int = 0,
    recipe: Sequence[tuple[str, Any]] = (),
    how: How | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Costs:
    """Time training by method, evaluation and its derivative for the backbone `name`.

    `batch` and `steps` are those of the timed runs; by default 128 images and 20 steps on CUDA, 2 steps of 8 images (32
    small ones) on one thread of a CPU. `recipe` has the options that differ from those of a plain run.
    BenchError without such a device, or where CUDA memory ends.
    """
    how = how or How()
    on_gpu = how.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise BenchError("no CUDA device here; use --device cpu, or run on a machine that has one")
    settle(how)
    base = _backbone(name, how, say)
    size = base.card.image_size
    batch = batch or (128 if on_gpu else 32 if size <= 64 else 8)
    steps = steps or (20 if on_gpu else 2)
    sample = _Sample.of(base, batch)
    fixed = {"lr": 1e-6, "strength": 1.0, **dict(recipe)}

    step: dict[str, float] = {}
    vector: dict[str, int] = {}
    memory: dict[str, int] = {}
    for label in dict.fromkeys([*(m.partition("+")[0] for m in methods), *methods]):
        say(f"training, {label}")
        method, regularizer = catalogue.split_finetuning(label)

        def run(count: int, method: str = method, regularizer: str = regularizer) -> finetune.Expert:
            chosen = Recipe(**{**fixed, "steps": count, "batch_size": batch, "warmup_steps": 0})
            return sample.train(chosen, method, regularizer)

        try:
            expert = run(1)  # kernels are chosen and memory is claimed here
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            short = _seconds(lambda: run(1), on_gpu)
            step[label] = max(0.0, _seconds(lambda: run(1 + steps), on_gpu) - short) / steps
        except torch.OutOfMemoryError as error:
            raise BenchError(
                f"{label}: {batch} images of {name} do not fit on this device; give a smaller --batch"
            ) from error
        if not regularizer:
            vector[label] = len(task_vectors.dump(expert.delta, expert.factors, {}))
            memory[label] = torch.cuda.max_memory_allocated() if on_gpu else _peak()

    say("evaluation")
    plain, along = sample.evaluations()
    for warm in (plain, along):
        warm()
    return Costs(
        backbone=name,
        device=how.device,
        name=torch.cuda.get_device_name() if on_gpu else f"one thread of a {platform.machine()} CPU",
        batch=batch,
        train={label: step[label] / batch for label in vector},
        penalty={m: max(0.0, step[m] - step[m.partition("+")[0]]) for m in methods if "+" in m},
        evaluate=_seconds(plain, on_gpu) / (2 * batch),
        derivative=_seconds(along, on_gpu) / (2 * batch),
        vector=vector,
        memory=memory,
        capacity=torch.cuda.get_device_properties(0).total_memory if on_gpu else 0,
        torch=torch.__version__,
        measured_at=int(time.time()),
    )


@dataclass(frozen=True)
class _Sample:
    """Two batches of random images with random labels and a random head, for the real loops."""

    base: Backbone
    pixels: Tensor
    labels: Tensor
    head: Tensor

    @classmethod
    def of(cls, base: Backbone, batch: int) -> "_Sample":
        size, random = base.card.image_size, torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (2 * batch, 3, size, size), generator=random, dtype=torch.uint8)
        labels = torch.randint(0, CLASSES, (2 * batch,), generator=random)
        classes = torch.randn(CLASSES, base.pretrained["proj"].shape[1], generator=random)
        return cls(base, pixels, labels, 100 * torch.nn.functional.normalize(classes, dim=1))

    def train(self, recipe: Recipe, method: str, regularizer: str) -> finetune.Expert:
        card = self.base.card
        return finetune.train(
            self.base.tower, self.base.pretrained, self.head, self.pixels, self.labels, recipe,
            method=method, regulariser=regularizer or None, seed=0, mean=card.mean, std=card.std,
            device=self.base.device,
        )  # fmt: skip

    def evaluations(self) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        """All images through the model, and through it and its derivative."""
        evaluator = Evaluator(self.base, len(self.labels) // 2)
        images, head = Images(self.pixels.numpy(), self.labels.numpy()), self.head.to(self.base.device)
        params = self.base.pretrained
        return (
            lambda: evaluator.correct(params, (images, head))[0],
            lambda: evaluator.correct_tangent(params, (1.0,), (images, head))[0],
        )


def _backbone(name: str, how: How, say: Callable[[str], None]) -> Backbone:
    card = suites.backbone(name)
    options: dict[str, Any] = {
        "device": how.device, "fast": how.fast, "checkpointing": how.checkpointing, "compiled": how.compile
    }  # fmt: skip
    if card.weights == "bundled" or weights.weights_file(card).is_file():
        return backbone.load(name, (), **options)
    say(f"random weights: those of {name} are not looked for")
    return backbone.untrained(card, **options)


def _seconds(work: Callable[[], object], on_gpu: bool) -> float:
    """Wall time on a GPU, where every timed function ends with a copy to the CPU, which waits for it; processor time on
    a CPU, which other programs on the machine do not change."""
    clock = time.perf_counter if on_gpu else time.process_time
    start = clock()
    work()
    return clock() - start


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
