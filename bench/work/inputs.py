"""What some operators need besides task vectors, made from images: Gram matrices, Fisher information, entropies.

Operators stay pure functions; this is the only place where they meet data. What each input was allowed to see is
fixed here and written into the row: `calibration` uses the first `IMAGES` training images of every task without their
labels; `unlabelled-test` uses the test images, likewise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bench.errors import BenchError
from bench.pixels.images import Images
from bench.work.backbone import Backbone

IMAGES = 256
"""Training images of every task behind a Gram matrix or a Fisher information (FusionBench's default)."""

ENTROPY_BATCH = 16
"""Test images of every task in one step of entropy minimisation (the official AdaMerging code's)."""

SAW = {
    "grams": f"{IMAGES} unlabelled training images a task",
    "grams_of": f"{IMAGES} unlabelled training images a task",
    "fisher": f"{IMAGES} training images a task, labels sampled from the expert",
    "entropy": "unlabelled test images",
}
"""What a need means for the row's protocol."""


class Grams(TorchFunctionMode):
    """Sums the outer products of what enters each linear map of a tower while it runs.

    A weight is recognised by its storage, so slices and flattened kernels count as the parameter they come from. The
    last block sends only the pooled token through some maps; then only that token matters and only it is counted.
    Where one parameter serves two maps (queries of the pooled token, keys and values of all), the larger input counts.
    """

    def __init__(self, params: Mapping[str, Tensor], wanted: Callable[[str], bool] = lambda name: True) -> None:
        super().__init__()
        self._names = {p.untyped_storage().data_ptr(): n for n, p in params.items() if p.ndim >= 2 and wanted(n)}
        self._sums: dict[str, Tensor] = {}
        self._rows: dict[str, int] = {}
        self._tokens: dict[str, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.nn.functional.linear, Tensor.matmul, Tensor.__matmul__, torch.matmul):
            name = self._names.get(args[1].untyped_storage().data_ptr())
            if name is not None:
                self._add(name, args[0].detach())
        return func(*args, **(kwargs or {}))

    def _add(self, name: str, x: Tensor) -> None:
        tokens = x.shape[1] if x.ndim == 3 else 1
        if tokens < self._tokens.get(name, 0):
            return
        if tokens > self._tokens.get(name, 0):
            self._tokens[name], self._rows[name] = tokens, 0
            self._sums[name] = x.new_zeros(x.shape[-1], x.shape[-1], dtype=torch.float64)
        flat = x.flatten(0, -2)
        self._sums[name] += (flat.T @ flat).double()
        self._rows[name] += len(flat)

    def means(self) -> dict[str, Tensor]:
        """Name -> [in, in] mean outer product, float64, on the CPU, where operators compute."""
        return {name: (total / self._rows[name]).cpu() for name, total in self._sums.items()}


@dataclass(frozen=True)
class Supplier:
    """Makes an operator's inputs for one set of experts, on demand."""

    backbone: Backbone
    vectors: Sequence[Mapping[str, Tensor]]
    calibration: Callable[[], Sequence[tuple[Images, Tensor]]]
    """Training images and head of each task; called only when a need asks for it."""
    unlabelled: Callable[[], Sequence[tuple[Images, Tensor]]]
    """Test images and head of each task, likewise."""
    tangent: bool
    seed: int
    batch: int = 64

    def __call__(self, need: str) -> Any:
        """The input that a need names."""
        makers = {"grams": self.grams, "grams_of": lambda: self.grams_of, "fisher": self.fisher,
                  "entropy": lambda: Entropy(self.backbone, self.unlabelled(), self.tangent)}  # fmt: skip
        if need not in makers:
            raise BenchError(f"no operator input named {need!r}; known: {', '.join(makers)}, factors")
        if need.startswith("grams") and not self.backbone.tower.fast:
            raise BenchError(f"{need}: this tower is not a standard ViT, its layer inputs cannot be observed")
        return makers[need]()

    def _weights(self, vector: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: p + vector[n].to(p) if n in vector else p.clone() for n, p in self.backbone.pretrained.items()}

    def _pixels(self, task: int) -> list[Tensor]:
        images, _ = self.calibration()[task]
        pixels = torch.from_numpy(images.pixels[:IMAGES].copy())
        return [self.backbone.normalise(part) for part in pixels.split(self.batch)]

    def grams(self) -> list[dict[str, Tensor]]:
        """By expert, the Gram matrices of its layers' inputs on its own task."""
        return [self._observe(self._weights(v), t, lambda name: True) for t, v in enumerate(self.vectors)]

    def grams_of(self, merged: Mapping[str, Tensor], task: int, block: int) -> dict[str, Tensor]:
        """RegMean++: inputs of one block, behind merged blocks, with the expert's own weights in the block itself."""
        inside = f"transformer.resblocks.{block}."
        blocks = {int(n.split(".")[2]) for n in self.backbone.pretrained if n.startswith("transformer.resblocks.")}
        wanted = (lambda name: name.startswith(inside)) if block in blocks else (lambda name: name == "proj")
        own = {n: t for n, t in self.vectors[task].items() if n.startswith(inside)}
        return self._observe(self._weights({**merged, **own}), task, wanted)

    @torch.no_grad()
    def _observe(self, params: dict[str, Tensor], task: int, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
        with Grams(params, wanted) as grams:
            for pixels in self._pixels(task):
                self.backbone.tower.eager(params, pixels)
        return grams.means()

    def fisher(self) -> list[dict[str, Tensor]]:
        """By expert, the mean squared gradient of log p(y | x) at the expert, y sampled from its own prediction."""
        by_expert = []
        for task, vector in enumerate(self.vectors):
            generator = torch.Generator().manual_seed(self.seed + task)
            params = self._weights(vector)
            leaves = {name: params[name].requires_grad_() for name in vector}
            sums = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
            head, count = self.calibration()[task][1], 0
            for pixels in (x for part in self._pixels(task) for x in part.split(1)):
                log_p = logits(self.backbone.tower(params, pixels), head).log_softmax(dim=-1)
                label = torch.multinomial(log_p.detach().cpu().exp(), 1, generator=generator)
                slopes = torch.autograd.grad(log_p[0, int(label)], list(leaves.values()))
                for total, slope in zip(sums.values(), slopes, strict=True):
                    total.addcmul_(slope, slope)
                count += 1
            by_expert.append({name: (total / count).cpu() for name, total in sums.items()})
        return by_expert


class Entropy:
    """Mean prediction entropy on unlabelled test images, summed over tasks, differentiable in the merged vector."""

    def __init__(self, backbone: Backbone, sets: Sequence[tuple[Images, Tensor]], tangent: bool) -> None:
        self._backbone, self._sets, self._tangent = backbone, sets, tangent
        self.device = backbone.device

    def __call__(self, merged: Mapping[str, Tensor], step: int) -> Tensor:
        """The entropy of pretrained + merged on the images of this step, 0-d."""
        batches = [self._batch(images, step) for images, _ in self._sets]
        pixels = self._backbone.normalise(torch.cat(batches))
        if not self._tangent:
            params = {n: p + merged[n] if n in merged else p for n, p in self._backbone.pretrained.items()}
            return self._of(self._backbone.tower(params, pixels), [len(b) for b in batches])
        # A tangent model's output is f0 + J merged: its gradient is J^T of the output's, one backward at theta_0.
        base = {n: p.detach().requires_grad_(n in merged) for n, p in self._backbone.pretrained.items()}
        plain = {n: t.detach() for n, t in merged.items()}
        f0, jvp = self._backbone.tower.dual(base, plain, pixels)
        out = (f0.detach() + jvp).requires_grad_()
        loss = self._of(out, [len(b) for b in batches])
        (slope,) = torch.autograd.grad(loss, out)
        slopes = torch.autograd.grad(f0, [base[n] for n in merged], slope, allow_unused=True)
        pairs = [(t, s) for t, s in zip(merged.values(), slopes, strict=True) if s is not None]
        carried = torch.stack([((t - t.detach()) * s).sum() for t, s in pairs]).sum()
        return loss.detach() + carried

    def _batch(self, images: Images, step: int) -> Tensor:
        rows = [(step * ENTROPY_BATCH + i) % len(images) for i in range(ENTROPY_BATCH)]
        return torch.from_numpy(images.pixels[rows].copy())

    def _of(self, features: Tensor, sizes: Sequence[int]) -> Tensor:
        losses = []
        for part, (_, head) in zip(features.split(list(sizes)), self._sets, strict=True):
            log_p = logits(part, head).log_softmax(dim=-1)
            losses.append(-(log_p.exp() * log_p).sum(dim=-1).mean())
        return torch.stack(losses).sum()


def logits(features: Tensor, head: Tensor) -> Tensor:
    """Zero-shot logits [batch, classes]: cosine times the scale that the head carries."""
    return torch.nn.functional.normalize(features, dim=-1) @ head.T
