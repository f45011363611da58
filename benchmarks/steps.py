"""What one training step costs: plain, with OrthoReg, in the tangent space; against the ways others compute them.

    python -m benchmarks.steps [--rounds 15] [--blocks 4] [--large-batch 16]        5 minutes on one core, no download

Every way does the same whole step (forward, loss, backward, clipping, AdamW) on the same batch. The ways take turns, so
that load on the machine hits all of them; times are process-CPU time, ratios are medians of the rounds' ratios. `floor`
is the way's own floating-point operations (counted) at the measured peak of a large float32 product.
"""

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor
from torch.func import functional_call, jvp
from torch.utils.flop_counter import FlopCounterMode

from bench.cards.recipes import Recipe
from bench.ground.versions import commit
from bench.work.finetune import Trainer
from bench.work.penalty import Penalty
from bench.work.training import Training
from benchmarks import _machine as machine
from methods.factors import Factors
from methods.tower import Tower
from methods.tower.reference import forward_mode
from methods.vectors import generator

# The counter knows `addmm` but not its in-place form.
IN_PLACE = {torch.ops.aten.addmm_: lambda out, x, y, **_: 2 * x[0] * x[1] * y[1]}

Way = Callable[[], None]
WHOLE_ROUNDS = 2
"""Of a step on a batch as large as training takes, which lasts a quarter of a minute."""


class AutogradPenalty(Trainer):
    """The penalty as the released code has it: in the loss, on dense updates, differentiated by autograd."""

    def gradients(self, index: int, batch: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        features = self.tower(self.method.weights(self.base, self.leaves, **self.options), batch)
        loss = F.cross_entropy(F.normalize(features, dim=-1) @ self.head.T, labels)
        updates = self.method.updates(self.base, self.leaves, **self.options)
        dense = [u.scale * u.b @ u.a if isinstance(u, Factors) else u for u in updates.values()]
        loss = loss + self.recipe.strength * sum(released_penalty(d) for d in dense if d.ndim == 2)
        found = torch.autograd.grad(loss, list(self.leaves.values()))
        return dict(zip(self.leaves, found, strict=True)), {}


class JvpThenBackward(Trainer):
    """The linearised model as the released code has it: a jvp in the forward pass, differentiated as a whole."""

    def gradients(self, index: int, batch: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tangent = {name: leaf - self.base[name] for name, leaf in self.leaves.items()}
        module = self.tower.module.train()  # the fused eval path of nn.MultiheadAttention has no forward derivative
        with forward_mode():
            value, moved = jvp(lambda p: functional_call(module, p, (batch,)), (self.base,), (tangent,))
        loss = F.cross_entropy(F.normalize(value + moved, dim=-1) @ self.head.T, labels)
        found = torch.autograd.grad(loss, list(self.leaves.values()))
        return dict(zip(self.leaves, found, strict=True)), {}


def released_penalty(d: Tensor) -> Tensor:
    """`||G - I||_F` on the smaller side."""
    gram = d @ d.T if d.shape[0] < d.shape[1] else d.T @ d
    return torch.linalg.matrix_norm(gram - torch.eye(len(gram)))


def ways(visual: VisionTransformer, batch_size: int, spread: float) -> dict[str, Way]:
    """Every way to take one step, by name, all with updates of standard deviation `spread`."""
    embed, size = visual.proj.shape[1], visual.image_size[0]
    draw = torch.Generator().manual_seed(0)
    batch = torch.randn(batch_size, 3, size, size, generator=draw)
    labels = torch.randint(0, 10, (batch_size,), generator=draw)
    head = 30 * F.normalize(torch.randn(10, embed, generator=draw), dim=-1)
    base = {name: p.detach() for name, p in visual.named_parameters()}
    plain = Recipe(steps=1_000_000, batch_size=batch_size, lr=1e-9)  # so small that every round does the same work
    regular = replace(plain, strength=1e-3)

    trainers: dict[str, Trainer] = {}
    for method in ("nonlinear", "att", "lora"):
        way = Training.of(regular, method, "orthoreg")
        leaves = way.method.start(base, generator(0, "finetune start"), **way.options)
        for leaf in leaves.values():
            leaf.add_(torch.randn(leaf.shape, generator=draw), alpha=spread)
        trainers[method] = Trainer(Tower(visual), way, base, leaves, head, 0)
        trainers[method].losses = torch.zeros(1)
    trainers["tta"] = trainers["nonlinear"]

    def step(method: str, recipe: Recipe, kind: type[Trainer] = Trainer, fast: bool = True) -> Way:
        trainer = kind.__new__(kind)  # weights and optimiser state are shared: one copy of each must do for ViT-B-32
        trainer.__dict__.update(trainers[method].__dict__)
        trainer.training = Training.of(recipe, method, "orthoreg")
        trainer.method, trainer.recipe, trainer.tower = trainer.training.method, recipe, Tower(visual, fast=fast)
        trainer.penalty = Penalty(trainer.training, 0) if recipe.strength > 0 and kind is Trainer else None
        return lambda: trainer.step(0, batch, labels)

    half: dict[str, Any] = {"precision": "bfloat16"}
    return {
        "plain": step("nonlinear", plain),
        "plain, open_clip's module": step("nonlinear", plain, fast=False),
        "plain, bfloat16": step("nonlinear", replace(plain, **half)),
        "orthoreg": step("nonlinear", regular),
        "orthoreg, mixed": step("nonlinear", replace(regular, options={"penalty_precision": "mixed"})),
        "orthoreg, sketch 64": step("nonlinear", replace(regular, options={"form": "squared", "sketch": 64})),
        "orthoreg, autograd": step("nonlinear", regular, AutogradPenalty),
        "tangent": step("tta", plain),
        "tangent, orthoreg": step("tta", regular),
        "tangent, bfloat16": step("tta", replace(plain, **half)),
        "tangent, torch.func": step("tta", plain, JvpThenBackward, fast=False),
        "att": step("att", plain),
        "att, orthoreg": step("att", regular),
        "lora": step("lora", plain),
        "lora, orthoreg": step("lora", regular),
        "lora, orthoreg, autograd": step("lora", regular, AutogradPenalty),
    }


def measure(table: dict[str, Way], rounds: int, peak: float) -> dict[str, dict[str, float]]:
    """Medians of interleaved rounds; `added` is the time above the same method's step without the penalty."""
    flops = {}
    for name, way in table.items():
        with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
            way()
        flops[name] = counter.get_total_flops()
    times = machine.turns(table, rounds)
    out = {}
    for name, found in times.items():
        row = {
            "milliseconds": 1e3 * median(found),
            "times_plain": median(a / b for a, b in zip(found, times["plain"], strict=True)),
            "gigaflops": flops[name] / 1e9,
            "floor_milliseconds": 1e3 * flops[name] / peak,
        }
        without = name.split(", orthoreg")[0] if ", orthoreg" in name else "plain"
        if "orthoreg" in name:
            row["times_without"] = median(a / b for a, b in zip(found, times[without], strict=True))
            row["added_milliseconds"] = 1e3 * median(a - b for a, b in zip(found, times[without], strict=True))
        out[name] = {key: round(value, 3) for key, value in row.items()}
    return out


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    print(f"\n{title:44s}    ms  x plain   floor   added")
    for name, row in rows.items():
        added = f"{row['added_milliseconds']:8.2f}" if "added_milliseconds" in row else ""
        times = f"{row['milliseconds']:10.2f}{row['times_plain']:7.2f}{row['floor_milliseconds']:10.2f}"
        print(f"  {name:38s}{times}{added}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--large-batch", type=int, default=16)
    parser.add_argument("--whole-batch", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4, help="of the 12 of ViT-B-32; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "steps.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    peak = machine.peak_flops()
    report: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 1, "gigaflops": peak / 1e9},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "commit": commit()},
    }

    def section(title: str, table: dict[str, Way], rounds: int) -> None:
        report[title] = measure(table, rounds, peak)
        show(title, report[title])

    # Spread: the largest singular value is about 0.14 on mini and 0.01 on ViT-B-32, as in the middle of a run.
    mini = VisionTransformer(32, 8, 256, 2, 4, 4.0, output_dim=128)
    section("mini, batch 32", ways(mini, 32, 3e-3), given.rounds)
    few = {name: way for name, way in ways(mini, 32, 0.05).items() if name in ("plain", "orthoreg", "orthoreg, mixed")}
    section("mini, batch 32, near orthonormal", few, given.rounds)
    if given.blocks:
        # Every block but the last costs the same, for a step and for a penalty alike.
        large = VisionTransformer(224, 32, 768, given.blocks, 12, 4.0, output_dim=512, act_layer=QuickGELU)
        left_out = ("att", "sketch", "tangent, ", "module")
        every = ways(large, given.large_batch, 1e-4)
        chosen = {n: w for n, w in every.items() if n == "tangent, torch.func" or not any(x in n for x in left_out)}
        rounds = max(3, given.rounds // 3)
        section(f"ViT-B-32, {given.blocks} of 12 blocks, batch {given.large_batch}", chosen, rounds)
        # What the penalty costs does not depend on the batch, so a large one says what share of a step it is.
        whole = {"plain": ways(large, given.whole_batch, 1e-4)["plain"]}
        section(f"ViT-B-32, {given.blocks} of 12 blocks, batch {given.whole_batch}", whole, WHOLE_ROUNDS)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
