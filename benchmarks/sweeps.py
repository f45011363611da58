"""Coefficient sweeps, tangent grids, subsets and disentanglement squares against a model built for every point.

    python -m benchmarks.sweeps [--rounds 3] [--blocks 4]                        2 minutes on one core, no download

`mini` in full, and `--blocks` of the 12 blocks of a ViT-B-32 (random weights; a block costs the same for both sides).
The references do what the released code does: for every coefficient, load the pretrained module from disk, add the
scaled vector, load the state dict; for a tangent model, one torch.func.jvp for every coefficient. Of a reference's
points four are timed and the rest is multiplication: every point costs the same. Floors: floating-point operations of
the forward passes nobody can avoid, at the measured peak of a float32 product; bytes at the measured read bandwidth.

`subsets` is what stored derivatives would allow for task arithmetic of tangent models; `bench run` does not do it,
since its cells are independent. `memory` says what one worker process holds, stage by stage (Linux only).
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor
from torch.func import functional_call, jvp
from torch.utils.flop_counter import FlopCounterMode

from bench.cards import suites
from bench.pixels.images import Images
from bench.work.backbone import Backbone
from bench.work.disentanglement import predictions
from bench.work.evaluate import Evaluator, Scaled, predict
from benchmarks import _machine as machine
from methods.tower.reference import forward_mode
from methods.vectors import TaskVector, generator

COEFFICIENTS = tuple(round(0.05 * i, 2) for i in range(21))
TASKS, TIMED = 8, 4


class Case:
    """A tower, some images with a head, task vectors, and the module on disk as the references load it."""

    def __init__(self, tower: VisionTransformer, card: str, images: int, folder: Path) -> None:
        self.backbone = Backbone(suites.backbone(card), (), model=torch.nn.ModuleDict({"visual": tower}))
        self.evaluator = Evaluator(self.backbone, batch_size=100)
        size, rng = self.backbone.card.image_size, np.random.default_rng(0)
        self.images = Images(rng.integers(0, 256, (images, 3, size, size), dtype=np.uint8), rng.integers(0, 10, images))
        embed = self.backbone.pretrained["proj"].shape[1]
        self.head = 100 * torch.nn.functional.normalize(torch.randn(10, embed, generator=generator(0, "head")), dim=1)
        self.pixels = self.backbone.normalise(torch.from_numpy(self.images.pixels))
        self.vectors = [
            {n: 1e-2 * p.std() * torch.randn(p.shape, generator=generator(0, t, n)) for n, p in self.weights.items()}
            for t in range(TASKS)
        ]
        self.file = folder / f"{card}.pt"
        torch.save(self.module, self.file)

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.backbone.pretrained

    @property
    def module(self) -> Any:
        return self.backbone.tower.module

    def rebuilt(self, vector: Mapping[str, Tensor], scaling: float) -> Any:
        """The model of one coefficient as the released code makes it."""
        module = torch.load(self.file, weights_only=False)  # our own file of a moment ago
        state = module.state_dict()
        module.load_state_dict({n: x + scaling * vector[n] if n in vector else x for n, x in state.items()})
        return module

    @torch.no_grad()
    def classes_of(self, module: Any) -> Tensor:
        return predict(module(self.pixels), self.head)

    @torch.no_grad()
    def along(self, tangent: TaskVector) -> Tensor:
        """Predicted classes of one tangent model by torch.func."""
        module = self.module.train()  # the fused evaluation path has no forward derivative
        with forward_mode():
            value, moved = jvp(lambda p: functional_call(module, p, (self.pixels,)), (self.weights,), (tangent,))
        module.eval()
        return predict(value + moved, self.head)

    @torch.inference_mode()
    def flops(self, *, dual: bool) -> float:
        """Floating-point operations of all images, counted in float64, where no product hides in a fused kernel."""
        weights, tangent = ({n: x.double() for n, x in of.items()} for of in (self.weights, self.vectors[0]))
        tower = self.backbone.tower
        work: Callable[[Tensor], object] = tower.frozen_dual(weights, tangent) if dual else tower.frozen(weights)
        with FlopCounterMode(display=False) as counter:
            work(self.pixels.double())
        return float(counter.get_total_flops())


def times(vector: Mapping[str, Tensor], scaling: float) -> TaskVector:
    return {name: scaling * x for name, x in vector.items()}


def plus(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> TaskVector:
    return {name: x + other[name] for name, x in one.items()}


def points(case: Case, rounds: int, peak: float, bandwidth: float) -> dict[str, Any]:
    """Every row of one tower."""
    vector, sets = case.vectors[0], [(case.images, case.head)]
    scaled = Scaled(case.weights, vector)
    bytes_moved = 3 * sum(x.numel() * x.element_size() for x in vector.values())
    forward, dual = (case.flops(dual=both) / peak for both in (False, True))

    def compare(ours: machine.Work, theirs: machine.Work, floor: float, scale: float = 1) -> dict[str, Any]:
        found = machine.turns({"ours": ours, "theirs": theirs}, rounds)
        return machine.row(found["ours"], [scale * t for t in found["theirs"]], floor)

    def some_rebuilt() -> list[Tensor]:
        return [case.classes_of(case.rebuilt(vector, a)) for a in COEFFICIENTS[-TIMED:]]

    def some_jvps() -> list[Tensor]:
        return [case.along(times(vector, a)) for a in COEFFICIENTS[-TIMED:]]

    def some_of_the_square() -> None:
        for a in COEFFICIENTS[-TIMED:]:
            case.along(plus(times(vector, a), times(case.vectors[1], 0.5)))

    def some_subsets() -> None:
        for size in range(2, 2 + TIMED):
            total = case.vectors[0]
            for other in case.vectors[1:size]:
                total = plus(total, other)
            case.along(times(total, 0.3))

    square = len(COEFFICIENTS) ** 2
    chosen = [c for size in range(2, TASKS + 1) for c in combinations(range(TASKS), size)]
    rows = {
        "one coefficient's weights": compare(
            lambda: scaled.at(0.3), lambda: case.rebuilt(vector, 0.3), bytes_moved / bandwidth
        ),
        "20 coefficients": compare(
            lambda: case.evaluator.sweep(vector, COEFFICIENTS[1:], sets, tangent=False),
            some_rebuilt,
            20 * (forward + bytes_moved / bandwidth),
            20 / TIMED,
        ),
        "21 coefficients, tangent": compare(
            lambda: case.evaluator.sweep(vector, COEFFICIENTS, sets, tangent=True), some_jvps, dual, 21 / TIMED
        ),
    }
    swept = case.evaluator.sweep(vector, COEFFICIENTS[-TIMED:], sets, tangent=True)
    expected = [found == torch.from_numpy(case.images.labels) for found in some_jvps()]
    rows["21 coefficients, tangent"]["answers_that_differ"] = sum(
        int((mine[0] != other).sum()) for mine, other in zip(swept, expected, strict=True)
    )
    if case.weights["proj"].shape[0] < 512:  # a second tower would say the same
        rows |= {
            "21 x 21 square, tangent": compare(
                lambda: predictions(
                    case.evaluator, case.vectors[:2], COEFFICIENTS, case.images, case.head, tangent=True
                ),
                some_of_the_square,
                2 * dual - forward,
                square / TIMED,
            ),
            f"{len(chosen)} subsets x 21 coefficients, tangent": compare(
                lambda: subsets(case, chosen),
                some_subsets,
                TASKS * dual - (TASKS - 1) * forward,
                len(chosen) * len(COEFFICIENTS) / TIMED,
            ),
        }
    return rows


@torch.inference_mode()
def subsets(case: Case, chosen: Sequence[tuple[int, ...]]) -> Tensor:
    """Classes [subsets, coefficients, images] of task arithmetic of tangent models, from one derivative a task."""
    tower, found = case.backbone.tower, []
    derivatives = []
    for vector in case.vectors:
        f0, moved = tower.frozen_dual(case.weights, vector)(case.pixels)
        derivatives.append(moved @ case.head.T)
    logits, mixing = torch.stack(derivatives), torch.zeros(len(chosen), TASKS)
    for i, some in enumerate(chosen):
        mixing[i, list(some)] = 1
    sums = torch.einsum("st,tnc->snc", mixing, logits)
    zero = f0 @ case.head.T
    for a in COEFFICIENTS:
        found.append((zero + a * sums).argmax(dim=-1))
    return torch.stack(found, dim=1)


STAGES = """
import gc, sys
def held(stage):
    gc.collect()
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if line.startswith("Rss"))
    print(stage, *(int(lines[k].split()[0]) // 1024 for k in ("RssAnon", "RssFile")), sep="\\t")
import torch
held("import torch")
from bench.cards import datasets
from bench.pixels import images
from bench.work import backbone
import numpy as np
cards_ = [datasets.load("digits")]
held("import bench")
base = backbone.load("mini", cards_)
held("backbone mini, text tower dropped")
pixels = np.load(sys.argv[1], mmap_mode="r")
held("images mapped")
int(pixels.sum(dtype=np.int64))
held("images read")
"""


def memory(folder: Path) -> dict[str, Any]:
    """Megabytes of a worker process: its own (`own`), and of files that all processes share (`shared`)."""
    if not Path("/proc/self/status").exists():
        return {}
    path = folder / "pixels.npy"
    np.save(path, np.zeros((20_000, 3, 32, 32), dtype=np.uint8))
    said = subprocess.run([sys.executable, "-c", STAGES, str(path)], capture_output=True, text=True, check=True).stdout
    lines = [line.split("\t") for line in said.splitlines() if line.count("\t") == 2]
    return {stage: {"own_megabytes": int(own), "shared_megabytes": int(shared)} for stage, own, shared in lines}


def main() -> None:
    """Run, print one line a row, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=4, help="of the 12 of ViT-B-32; 0 leaves it out")
    parser.add_argument("--images", type=int, default=200, help="images for mini; ViT-B-32 gets a twelfth")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "sweeps.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    peak, bandwidth = machine.peak_flops(), machine.peak_bytes()
    where = machine.setting(
        gigaflops=machine.digits(peak / 1e9), gigabytes_a_second=machine.digits(bandwidth / 1e9), images=asked.images
    )
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = partial(VisionTransformer, 32, 8, 256, 2, 4, 4.0, output_dim=128)
        large = partial(VisionTransformer, 224, 32, 768, asked.blocks, 12, 4.0, output_dim=512, act_layer=QuickGELU)
        towers = [("mini", "mini", small, asked.images)]
        if asked.blocks:
            few = max(2, asked.images // 12)
            towers.append((f"ViT-B-32, {asked.blocks} of 12 blocks", "ViT-B-32", large, few))
        for title, card, build, images in towers:
            found = points(Case(build(), card, images, folder), asked.rounds, peak, bandwidth)
            for what, row in found.items():
                rows[f"{title}: {what}"] = row | {"images": images}
                machine.show(f"{title}: {what}", row)
            machine.write(asked.out, where, rows)
        rows["memory of one worker"] = memory(folder)
        machine.show("memory of one worker", rows["memory of one worker"])
        machine.write(asked.out, where, rows)


if __name__ == "__main__":
    main()
