"""Training steps, OrthoReg, tangent training and sweeps on a CUDA device, against a reference-style loop in one run.

    python -m benchmarks.gpu [--steps 20] [--files 512]             under 8 minutes on one GPU; exit code 2 without one

A ViT-B-32 tower with random weights: neither weights nor pixels change a matrix product's time. The reference is the
field's: PIL workers and open_clip's transform for every image in every pass, open_clip's module in float32, AdamW, and
one model loaded from disk for every coefficient. Ours is `bench.finetune.train` and `bench.evaluate` on the
memory-mapped uint8 images of the same files. Steps are differences of two runs of the real loop, which leaves out what
happens once. Floors are counted operations at the measured peak of a large product in the same precision.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transform import image_transform
from open_clip.transformer import QuickGELU, VisionTransformer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from bench.backbone import Backbone
from bench.evaluate import Evaluator, predict
from bench.finetune import train
from bench.images import Images
from bench.recipes import Recipe
from bench.suites import BackboneCard, backbone
from benchmarks import _machine as machine
from benchmarks.images import cached, draw
from methods.vectors import generator

CLASSES = 10
COEFFICIENTS = tuple(round(0.05 * i, 2) for i in range(1, 21))
SLOW_COEFFICIENTS = 3
"""Coefficients that the reference is timed on; each of them costs the same."""

WAYS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain, float32": ("nonlinear", "", {}),
    "plain, bfloat16": ("nonlinear", "", {"precision": "bfloat16"}),
    "orthoreg, float32": ("nonlinear", "orthoreg", {}),
    "orthoreg, bfloat16, mixed": ("nonlinear", "orthoreg", {"precision": "bfloat16", "penalty_precision": "mixed"}),
    "tangent, float32": ("tta", "", {}),
    "tangent, bfloat16": ("tta", "", {"precision": "bfloat16"}),
    "tangent, orthoreg, bfloat16": ("tta", "orthoreg", {"precision": "bfloat16", "penalty_precision": "mixed"}),
    "lora, bfloat16": ("lora", "", {"precision": "bfloat16"}),
}


@dataclass(frozen=True)
class Bench:
    """What every part needs: a tower on a device, image files, their decoded pixels, labels and a head."""

    backbone: Backbone
    files: Sequence[Path]
    images: Images
    head: Tensor
    batch: int
    steps: int
    workers: int

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


def prepare(
    tower: VisionTransformer,
    card: BackboneCard,
    device: str,
    files: Sequence[Path],
    batch: int,
    steps: int,
    workers: int,
) -> Bench:
    """Everything ready: the files decoded once, as the cache of `bench` holds them."""

    base = Backbone(card, (), device=device, model=torch.nn.ModuleDict({"visual": tower}))
    pixels = cached(files, files[0].parent, card.image_size)
    labels = np.random.default_rng(0).integers(0, CLASSES, len(files))
    embed = base.pretrained["proj"].shape[1]
    head = 100 * F.normalize(torch.randn(CLASSES, embed, generator=generator(0, "head")), dim=1).to(device)
    return Bench(base, files, Images(pixels, labels), head, batch, steps, workers)


def ours(bench: Bench, way: str, steps: int) -> None:
    """`steps` steps of the real training loop."""
    method, regulariser, options = WAYS[way]
    recipe = Recipe(steps=steps, batch_size=bench.batch, lr=1e-6, strength=1.0 if regulariser else 0.0)
    card = bench.backbone.card
    train(
        bench.backbone.tower, bench.backbone.pretrained, bench.head, bench.images.pixels, bench.images.labels,
        replace(recipe, **options), method=method, regulariser=regulariser or None, seed=0, mean=card.mean,
        std=card.std, device=bench.device,
    )  # fmt: skip


def batches(bench: Bench) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, from PIL workers."""
    data = Files(bench.files, bench.images.labels, bench.backbone.card)
    loader = DataLoader(data, bench.batch, shuffle=True, drop_last=True, num_workers=bench.workers, pin_memory=True)
    while True:
        for pixels, labels in loader:
            yield pixels.to(bench.device, non_blocking=True), labels.to(bench.device, non_blocking=True)


def reference_steps(bench: Bench, found: Iterator[tuple[Tensor, Tensor]], module: Any, steps: int) -> None:
    """`steps` steps as the released code takes them: open_clip's module in float32, AdamW, clipping."""
    parameters = list(module.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-6, weight_decay=0.1)
    for _ in range(steps):
        pixels, labels = next(found)
        optimiser.zero_grad()
        F.cross_entropy(F.normalize(module(pixels), dim=-1) @ bench.head.T, labels).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()


def training(bench: Bench, copy: Callable[[], Any], peaks: dict[str, float]) -> dict[str, Any]:
    """Milliseconds of a step in every way, and images a second with their data against the reference loop."""
    rows: dict[str, Any] = {}
    pixels = bench.backbone.normalise(torch.from_numpy(bench.images.pixels[: bench.batch].copy()))
    with FlopCounterMode(display=False) as counter:
        bench.backbone.tower(bench.backbone.pretrained, pixels)
    forward = float(counter.get_total_flops())
    for way in WAYS:
        ours(bench, way, 1)
        short = bench.seconds(partial(ours, bench, way, 1))
        step = max((bench.seconds(partial(ours, bench, way, 1 + bench.steps)) - short) / bench.steps, 1e-9)
        floor = (5 if "tangent" in way else 3) * forward / peaks["bfloat16" if "bfloat16" in way else "float32"]
        plain = rows.get(f"plain, {'bfloat16' if 'bfloat16' in way else 'float32'}", {"milliseconds": 1e3 * step})
        rows[way] = {
            "milliseconds": machine.digits(1e3 * step),
            "times_plain": machine.digits(1e3 * step / plain["milliseconds"]),
            "floor_milliseconds": machine.digits(1e3 * floor),
            "times_floor": machine.digits(step / floor),
            "images_a_second": machine.digits(bench.batch / step),
        }
    found, module = batches(bench), copy()
    reference_steps(bench, found, module, 2)
    slow = bench.seconds(partial(reference_steps, bench, found, module, bench.steps)) / bench.steps
    fixed = iter(lambda: (pixels, torch.zeros(bench.batch, dtype=torch.long, device=bench.device)), None)
    reference_steps(bench, fixed, module, 1)  # type: ignore[arg-type]
    no_data = bench.seconds(partial(reference_steps, bench, fixed, module, bench.steps)) / bench.steps
    rows["reference loop"] = {
        "milliseconds": machine.digits(1e3 * slow),
        "milliseconds_without_reading": machine.digits(1e3 * no_data),
        "images_a_second": machine.digits(bench.batch / slow),
        "plain_float32_times_faster": machine.digits(1e3 * slow / rows["plain, float32"]["milliseconds"]),
        "plain_bfloat16_times_faster": machine.digits(1e3 * slow / rows["plain, bfloat16"]["milliseconds"]),
    }
    return rows


def sweeping(bench: Bench, folder: Path) -> dict[str, Any]:
    """Images a second of a sweep, ordinary and tangent, against one model loaded for every coefficient."""
    module = bench.backbone.tower.module
    torch.save(module, folder / "pretrained.pt")
    weights = bench.backbone.pretrained
    draw_ = generator(0, "vector")
    vector = {n: (1e-2 * p.std() * torch.randn(p.shape, generator=draw_).to(p.device)) for n, p in weights.items()}
    evaluator, sets = Evaluator(bench.backbone, bench.batch, resident=0.25), [(bench.images, bench.head)]

    @torch.no_grad()
    def rebuilt(scaling: float) -> Tensor:
        model = torch.load(folder / "pretrained.pt", weights_only=False)  # our own file of a moment ago
        model.load_state_dict({n: x + scaling * vector[n] if n in vector else x for n, x in model.state_dict().items()})
        loader = DataLoader(
            Files(bench.files, bench.images.labels, bench.backbone.card), bench.batch, num_workers=bench.workers
        )
        found = [predict(model(x.to(bench.device)), bench.head) == y.to(bench.device) for x, y in loader]
        return torch.cat(found).cpu()

    slow_points = COEFFICIENTS[:SLOW_COEFFICIENTS]
    expected = [rebuilt(a) for a in slow_points]
    slow = bench.seconds(lambda: [rebuilt(a) for a in slow_points]) / len(slow_points)
    rows: dict[str, Any] = {}
    for name, tangent in (("sweep", False), ("sweep, tangent", True)):
        found = evaluator.sweep(vector, COEFFICIENTS, sets, tangent=tangent)
        fast = bench.seconds(partial(evaluator.sweep, vector, COEFFICIENTS, sets, tangent=tangent)) / len(COEFFICIENTS)
        rows[name] = {
            "images_a_second": machine.digits(len(bench.images) / fast),
            "reference_images_a_second": machine.digits(len(bench.images) / slow),
            "times_faster": machine.digits(slow / fast),
        }
        if not tangent:
            pairs = zip(found, expected, strict=False)
            rows[name]["answers_that_differ"] = sum(int((mine[0] != other).sum()) for mine, other in pairs)
    return rows


def peak(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Floating-point operations a second of a large product, the best of ten."""
    x = torch.randn(size, size, device=device, dtype=dtype)
    x @ x
    best = float("inf")
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        x @ x
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def main() -> int:
    """0 when done, 2 without a CUDA device."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--files", type=int, default=512)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "gpu.json")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "benchmarks.gpu: no CUDA device here; run it on a machine that has one (make bench needs none)",
            file=sys.stderr,
        )
        return 2
    device = torch.device("cuda")
    peaks = {name: peak(device, getattr(torch, name)) for name in ("float32", "bfloat16")}
    where = machine.setting(
        device=torch.cuda.get_device_name(),
        cuda=torch.version.cuda,
        batch=asked.batch,
        files=asked.files,
        workers=os.cpu_count(),
        teraflops={name: machine.digits(x / 1e12) for name, x in peaks.items()},
    )
    make = partial(VisionTransformer, 224, 32, 768, 12, 12, 4.0, output_dim=512, act_layer=QuickGELU)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = draw(folder, "jpeg", 500, 375, asked.files)
        card = backbone("ViT-B-32")
        bench = prepare(make(), card, "cuda", files, batch=asked.batch, steps=asked.steps, workers=os.cpu_count() or 1)
        rows = training(bench, lambda: make().to(device), peaks)
        machine.write(asked.out, where, rows)
        rows |= sweeping(bench, folder)
        machine.write(asked.out, where, rows)
    for what, found in rows.items():
        machine.show(what, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
