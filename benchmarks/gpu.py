"""Training steps, OrthoReg, tangent training and sweeps on a CUDA device, against a reference-style loop in one run.

    python -m benchmarks.gpu [--steps 20] [--files 512] [--compile] [--no-deterministic]

Under 8 minutes on one GPU without `--compile`; exit code 2 without a GPU. A ViT-B-32 tower with random weights: neither
weights nor pixels change a matrix product's time. The reference is the field's (`benchmarks/_field.py`): PIL workers
and open_clip's transform for every image in every pass, open_clip's module in float32, AdamW, and one model loaded from
disk for every coefficient. Ours is `bench.work.finetune.train` and `bench.work.evaluate` on the decoded uint8 images of
the same files, resident on the device as in `bench run`, with its deterministic kernels unless `--no-deterministic`;
the reference always has torch's defaults. Steps are differences of two runs of the real loop, which leaves out what
happens once. Floors are counted operations at the measured peak of a large product in the same precision. `--compile`
adds rows in which `methods.tower.vit.features` goes through torch.compile, without and with CUDA graphs.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.cards.suites import backbone
from bench.work.evaluate import Evaluator, predict
from benchmarks import _field as field
from benchmarks import _machine as machine
from benchmarks._device import RESIDENT, WAYS, Bench, a_step, ours, peak, prepare
from benchmarks.images import draw
from methods.tower import Tower, vit
from methods.vectors import generator

COEFFICIENTS = tuple(round(0.05 * i, 2) for i in range(1, 21))
SLOW_COEFFICIENTS = 3
"""Coefficients that the reference is timed on; each of them costs the same."""

COMPILED: dict[str, dict[str, Any]] = {"compiled": {}, "CUDA graphs": {"mode": "reduce-overhead"}}
"""Options of torch.compile."""


def training(bench: Bench, copy: Callable[[], Any], peaks: dict[str, float]) -> dict[str, Any]:
    """Milliseconds of a step in every way, and images a second with their data against the reference loop."""
    rows: dict[str, Any] = {}
    pixels = bench.backbone.normalise(torch.from_numpy(bench.images.pixels[: bench.batch].copy()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        bench.backbone.tower(bench.backbone.pretrained, pixels)
    forward = float(counter.get_total_flops())
    for way in WAYS:
        memory = bench.peak_mib(partial(ours, bench, way, 2))
        step = a_step(bench, way)
        floor = (5 if "tangent" in way else 3) * forward / peaks["bfloat16" if "bfloat16" in way else "float32"]
        plain = rows.get(f"plain, {'bfloat16' if 'bfloat16' in way else 'float32'}", {"milliseconds": 1e3 * step})
        rows[way] = {
            "milliseconds": machine.digits(1e3 * step),
            "times_plain": machine.digits(1e3 * step / plain["milliseconds"]),
            "floor_milliseconds": machine.digits(1e3 * floor),
            "times_floor": machine.digits(step / floor),
            "images_a_second": machine.digits(bench.batch / step),
            "peak_mib": memory,
        }
    module = copy()
    labels = torch.zeros(len(pixels), dtype=torch.long, device=bench.device)
    fixed = iter(lambda: (pixels, labels), None)
    field.steps(fixed, module, bench.head, 2)  # type: ignore[arg-type]
    memory = bench.peak_mib(partial(field.steps, fixed, module, bench.head, 1))
    no_data = bench.seconds(partial(field.steps, fixed, module, bench.head, bench.steps)) / bench.steps
    found = field.batches(bench.read, bench.batch, bench.workers, bench.device)
    # What the workers have ready when the clock starts was read before it: take that out first.
    field.steps(found, module, bench.head, 2 + bench.workers * field.PREFETCH)
    slow = bench.seconds(partial(field.steps, found, module, bench.head, bench.steps)) / bench.steps
    found.close()  # and with it the workers
    rows["reference loop"] = {
        "milliseconds": machine.digits(1e3 * slow),
        "milliseconds_without_reading": machine.digits(1e3 * no_data),
        "images_a_second": machine.digits(bench.batch / slow),
        "plain_float32_times_faster": machine.digits(1e3 * slow / rows["plain, float32"]["milliseconds"]),
        "plain_bfloat16_times_faster": machine.digits(1e3 * slow / rows["plain, bfloat16"]["milliseconds"]),
        "plain_float32_times_faster_without_reading": machine.digits(
            1e3 * no_data / rows["plain, float32"]["milliseconds"]
        ),
        "peak_mib": memory,
    }
    return rows


@contextmanager
def compiled(tower: Tower, **options: Any) -> Iterator[None]:
    """The tower's forward pass through torch.compile (its derivative is not: tangent ways walk on their own)."""
    try:
        with patch.object(tower, "_features", torch.compile(vit.features, **options)):
            yield
    finally:
        torch.compiler.reset()


def compiling(bench: Bench, rows: dict[str, Any], ways: Sequence[str]) -> dict[str, Any]:
    """Steps and evaluation with a compiled forward and backward pass, against `rows` without."""
    found: dict[str, Any] = {}
    evaluator = Evaluator(bench.backbone, bench.batch, RESIDENT)
    sets = (bench.images, bench.head)

    def look() -> Tensor:
        return evaluator.correct(bench.backbone.pretrained, sets)[0]

    expected, eager = look(), bench.seconds(look)
    for name, options in COMPILED.items():
        with compiled(bench.backbone.tower, **options):
            for way in ways:
                once = bench.seconds(
                    partial(ours, bench, way, 3)
                )  # graphs are recorded at the second call or the third
                step = a_step(bench, way)
                found[f"{way}, {name}"] = {
                    "milliseconds": machine.digits(1e3 * step),
                    "times_faster": machine.digits(rows[way]["milliseconds"] / (1e3 * step)),
                    "compile_seconds": machine.digits(once),
                }
            answers = [look() for _ in range(3)][-1]
            seconds = bench.seconds(look)
            found[f"evaluation, {name}"] = {
                "images_a_second": machine.digits(len(bench.images) / seconds),
                "times_faster": machine.digits(eager / seconds),
                "answers_that_differ": int((answers != expected).sum()),
            }
    return found


def sweeping(bench: Bench, folder: Path) -> dict[str, Any]:
    """Images a second of a sweep, ordinary and tangent, against one model loaded for every coefficient."""
    module = bench.backbone.tower.module
    torch.save(module, folder / "pretrained.pt")
    weights = bench.backbone.pretrained
    draw_ = generator(0, "vector")
    vector = {n: (1e-2 * p.std() * torch.randn(p.shape, generator=draw_).to(p.device)) for n, p in weights.items()}
    evaluator, sets = Evaluator(bench.backbone, bench.batch, RESIDENT), [(bench.images, bench.head)]

    @torch.no_grad()
    def rebuilt(scaling: float) -> Tensor:
        model = torch.load(folder / "pretrained.pt", weights_only=False)  # our own file of a moment ago
        model.load_state_dict({n: x + scaling * vector[n] if n in vector else x for n, x in model.state_dict().items()})
        data = field.in_order(bench.read, bench.batch, readers, bench.device)
        return torch.cat([predict(model(x), bench.head) == y for x, y in data]).cpu()

    readers = min(bench.workers, -(-len(bench.files) // bench.batch))  # a worker without a batch only costs its start
    slow_points = COEFFICIENTS[:SLOW_COEFFICIENTS]
    expected = [rebuilt(a) for a in slow_points]
    slow = bench.seconds(lambda: [rebuilt(a) for a in slow_points]) / len(slow_points)
    rows: dict[str, Any] = {}
    for name, tangent in (("sweep", False), ("sweep, tangent", True)):
        sweep = partial(evaluator.sweep, vector, COEFFICIENTS, sets, tangent=tangent)
        with bench.ours():
            found = sweep()
            fast = bench.seconds(sweep) / len(COEFFICIENTS)
        rows[name] = {
            "images_a_second": machine.digits(len(bench.images) / fast),
            "reference_images_a_second": machine.digits(len(bench.images) / slow),
            "times_faster": machine.digits(slow / fast),
        }
        if not tangent:
            pairs = zip(found, expected, strict=False)
            rows[name]["answers_that_differ"] = sum(int((mine[0] != other).sum()) for mine, other in pairs)
    return rows


def main() -> int:
    """0 when done, 2 without a CUDA device."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--files", type=int, default=512)
    parser.add_argument("--compile", action="store_true", help="also through torch.compile; some minutes more")
    parser.add_argument("--deterministic", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "gpu.json")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "benchmarks.gpu: no CUDA device here; run it on a machine that has one (make bench needs none)",
            file=sys.stderr,
        )
        return 2
    if asked.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    device, workers = torch.device("cuda"), field.cores()
    peaks = {name: peak(device, getattr(torch, name)) for name in ("float32", "bfloat16")}
    where = machine.setting(
        device=torch.cuda.get_device_name(),
        cuda=torch.version.cuda,
        batch=asked.batch,
        files=asked.files,
        workers=workers,
        deterministic=asked.deterministic,
        teraflops={name: machine.digits(x / 1e12) for name, x in peaks.items()},
    )
    make = partial(VisionTransformer, 224, 32, 768, 12, 12, 4.0, output_dim=512, act_layer=QuickGELU)
    rows: dict[str, Any] = {}

    def report(more: dict[str, Any]) -> None:
        rows.update(more)
        machine.write(asked.out, where, rows)  # after every part: a run cut short is not lost
        for what, found in more.items():
            machine.show(what, found)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = draw(folder, "jpeg", 500, 375, asked.files)
        card = backbone("ViT-B-32")
        bench = prepare(make(), card, "cuda", files, asked.batch, asked.steps, workers, asked.deterministic)
        report(training(bench, lambda: make().to(device), peaks))
        report(sweeping(bench, folder))
        if asked.compile:
            report(compiling(bench, rows, ("plain, float32", "plain, bfloat16")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
