"""Measure what cells cost on this device: `bench calibrate` fills the table that `bench plan` reads
(`bench.planning.costs`).

Random images, and random weights where the released ones are not here: neither changes a matrix product's time. A step
is timed as the difference of two runs of the real training loop, which leaves out everything that happens once.
"""

import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.cards import recipes, suites
from bench.errors import BenchError, retold
from bench.ground import names
from bench.pixels.images import Images
from bench.planning.costs import Costs
from bench.registry.catalogue import Catalogue
from bench.store import task_vectors
from bench.work import backbone, finetune, weights
from bench.work.backbone import Backbone
from bench.work.evaluate import Evaluator
from bench.work.pictures import Pictures
from bench.work.runtime import How, settle
from bench.work.training import Training

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
    recipes.check_names(dict(recipe), catalogue.owners(methods))
    fixed = {"lr": 1e-6, "strength": 1.0, **dict(recipe), "batch_size": batch, "warmup_steps": 0}
    asked = [names.Finetuning(*catalogue.split_finetuning(method)) for method in methods]
    trainings: dict[names.Finetuning, _Training] = {}
    for method in dict.fromkeys([*(m.plain for m in asked), *asked]):
        say(f"training, {method}")
        text = f"{method}: {batch} images of {name} do not fit on this device; give a smaller --batch"
        with retold(BenchError, text, torch.OutOfMemoryError):
            trainings[method] = _training(sample, method, fixed, catalogue.owners([str(method)]), steps)
    say("evaluation")
    evaluate, derivative = sample.evaluation()
    plain = {str(method): training for method, training in trainings.items() if not method.regularizer}
    return Costs(
        backbone=name,
        device=how.device,
        name=torch.cuda.get_device_name() if on_gpu else f"one thread of a {platform.machine()} CPU",
        batch=batch,
        train={method: training.step / batch for method, training in plain.items()},
        penalty={str(m): max(0.0, trainings[m].step - trainings[m.plain].step) for m in asked if m.regularizer},
        evaluate=evaluate,
        derivative=derivative,
        vector={method: training.vector for method, training in plain.items()},
        memory={method: training.memory for method, training in plain.items()},
        capacity=torch.cuda.get_device_properties(0).total_memory if on_gpu else 0,
        torch=torch.__version__,
        measured_at=int(time.time()),
    )


@dataclass(frozen=True)
class _Training:
    """Of one method: seconds of a step, bytes of its task vector as stored, and the most memory in bytes."""

    step: float
    vector: int
    memory: int


def _training(
    sample: "_Sample", method: names.Finetuning, fixed: Mapping[str, Any], owners: Sequence[recipes.Owner], steps: int
) -> _Training:
    def run(count: int) -> finetune.Expert:
        chosen = recipes.settle("--recipe", [("", {**fixed, "steps": count})], owners)
        return sample.train(Training.of(chosen, method.method, method.regularizer))

    on_gpu = sample.on_gpu
    expert = run(1)  # kernels are chosen and memory is claimed here
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    short = _seconds(lambda: run(1), on_gpu)
    step = max(0.0, _seconds(lambda: run(1 + steps), on_gpu) - short) / steps
    vector = len(task_vectors.dump(expert.delta, expert.factors, {}))
    return _Training(step, vector, torch.cuda.max_memory_allocated() if on_gpu else _peak())


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

    @property
    def on_gpu(self) -> bool:
        return self.base.device.type == "cuda"

    def train(self, training: Training) -> finetune.Expert:
        card = self.base.card
        return finetune.train(
            self.base.tower, self.base.pretrained, self.head, Pictures(self.pixels, self.labels, card.mean, card.std),
            training, seed=0, device=self.base.device,
        )  # fmt: skip

    def evaluation(self) -> tuple[float, float]:
        """Seconds an image through the model, and through it and its derivative."""
        evaluator = Evaluator(self.base, len(self.labels) // 2)
        images, head = Images(self.pixels.numpy(), self.labels.numpy()), self.head.to(self.base.device)
        params = self.base.pretrained

        def plain() -> None:
            evaluator.correct(params, (images, head))

        def along() -> None:
            evaluator.correct_tangent(params, (1.0,), (images, head))

        for warm in (plain, along):
            warm()
        return _seconds(plain, self.on_gpu) / len(images), _seconds(along, self.on_gpu) / len(images)


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
