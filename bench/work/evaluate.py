"""Evaluation: which images a model gets right, for one set of weights or for a whole sweep of coefficients.

A sweep never rebuilds a model. For ordinary models `pretrained + scaling * merged` is written into one set of buffers,
in place. A tangent model is affine in the coefficient, so one forward and one directional derivative serve the grid.
With a tower whose fast paths are switched off, every coefficient is computed on its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.ground.lru import Kept
from bench.pixels.images import Images
from bench.work.backbone import Backbone

HELD = 64
"""Splits that an evaluator keeps in mind; a suite of eight tasks has 26."""

PIECE = 1024
"""Images that are copied to a GPU at once."""


@dataclass(frozen=True)
class OnDevice:
    """One split on a device: `pixels` uint8 [rows, 3, size, size], `labels` int64 [rows]."""

    pixels: Tensor
    labels: Tensor

    @classmethod
    def of(cls, images: Images, device: torch.device) -> "OnDevice":
        """A copy of the images, in pieces that need little memory on the way."""
        with torch.inference_mode(False):  # training reads the same tensors
            pixels = torch.empty(images.pixels.shape, dtype=torch.uint8, device=device)
            for i in range(0, len(images), PIECE):
                pixels[i : i + PIECE] = to_device(images.pixels[i : i + PIECE].copy(), device)
            return cls(pixels, torch.from_numpy(images.labels.copy()).to(device))


@dataclass(frozen=True)
class Evaluator:
    """Evaluates weights on images with a frozen head. `batch_size` is a matter of speed and memory only."""

    backbone: Backbone
    batch_size: int = 256
    resident: float = 0.0
    """Share of the free memory of a GPU in which images may stay between batches and calls."""
    _held: Kept[int, tuple[Images, Images | OnDevice]] = field(
        default_factory=lambda: Kept(HELD), repr=False, compare=False
    )
    _untouched: Kept[tuple[int, int], tuple[Images, Tensor, Tensor]] = field(
        default_factory=lambda: Kept(HELD), repr=False, compare=False
    )

    @torch.inference_mode()
    def correct(self, params: Mapping[str, Tensor], *sets: tuple[Images, Tensor]) -> list[Tensor]:
        """For every (images, head) bool [images]: whether the largest logit is the label's."""
        by_set: list[list[Tensor]] = [[] for _ in sets]
        for place, right in self.batchwise(params, sets):
            by_set[place].append(right)
        return [torch.cat(batches).cpu() for batches in by_set]

    @torch.inference_mode()
    def batchwise(
        self, params: Mapping[str, Tensor], sets: Sequence[tuple[Images, Tensor]]
    ) -> Iterator[tuple[int, Tensor]]:
        """The place of a set and bool [batch] on the device, batch by batch, for whoever may not want them all."""
        features = self.backbone.tower.frozen(params)
        for place, (images, head) in enumerate(sets):
            for x, y in self.batches(images):
                yield place, predict(features(x), head) == y

    @torch.inference_mode()
    def correct_tangent(
        self, tangent: Mapping[str, Tensor], scalings: Sequence[float], *sets: tuple[Images, Tensor]
    ) -> list[Tensor]:
        """For every (images, head) bool [scalings, images]: likewise of f(theta0) + scaling * J(theta0) tangent."""
        along = {name: tensor.to(self.backbone.device) for name, tensor in tangent.items()}
        dual = self.backbone.tower.frozen_dual(self.backbone.pretrained, along)

        def batch(x: Tensor, y: Tensor, head: Tensor) -> Tensor:
            f0, jvp = dual(x)
            return torch.stack([predict(f0 + a * jvp, head) == y for a in scalings])

        return [torch.cat([batch(x, y, head) for x, y in self.batches(images)], dim=1).cpu() for images, head in sets]

    def sweep(
        self,
        merged: Mapping[str, Tensor],
        scalings: Sequence[float],
        sets: Sequence[tuple[Images, Tensor]],
        *,
        tangent: bool,
    ) -> list[list[Tensor]]:
        """Correctness of every coefficient on every (images, head): `result[scaling][set]` is bool [images]."""
        if self.backbone.tower.plain:
            return [[self._alone(merged, a, *one, tangent=tangent) for one in sets] for a in scalings]
        if tangent:
            by_set = self.correct_tangent(merged, scalings, *sets)
            return [[bits[i] for bits in by_set] for i in range(len(scalings))]
        params = Scaled(self.backbone.pretrained, merged)
        return [self.correct(params.at(a), *sets) if a else [self.untouched(*one) for one in sets] for a in scalings]

    def _alone(
        self, merged: Mapping[str, Tensor], scaling: float, images: Images, head: Tensor, *, tangent: bool
    ) -> Tensor:
        """One coefficient as if it were the only one, for debugging: its own weights or its own derivative."""
        base = self.backbone.pretrained
        scaled = {name: scaling * tensor.to(base[name].device) for name, tensor in merged.items()}
        if tangent:
            return self.correct_tangent(scaled, (1.0,), (images, head))[0][0]
        params = {**base, **{name: base[name] + moved for name, moved in scaled.items()}}
        return self.correct(params, (images, head))[0]

    def untouched(self, images: Images, head: Tensor) -> Tensor:
        """`correct` of the pretrained weights, kept: coefficient 0 of every sweep asks for it."""
        key = id(images), id(head)
        if key not in self._untouched:
            self._untouched[key] = images, head, self.correct(self.backbone.pretrained, (images, head))[0]
        return self._untouched[key][2]

    def batches(self, images: Images) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised pixels and labels, batch by batch, on the backbone's device."""
        device, split = self.backbone.device, self.near(images)
        for i in range(0, len(images), self.batch_size):
            rows = slice(i, i + self.batch_size)
            if isinstance(split, OnDevice):
                yield self.backbone.normalise(split.pixels[rows]), split.labels[rows]
            else:
                pixels, labels = (to_device(a[rows].copy(), device) for a in (split.pixels, split.labels))
                yield self.backbone.normalise(pixels), labels

    def near(self, images: Images) -> Images | OnDevice:
        """The images on the backbone's GPU as uint8 when they fit into its share of the memory, else as they are."""
        key = id(images)
        pair = self._held.pop(key) if key in self._held else (images, self._place(images))
        self._held[key] = pair  # as the one asked for last; with the images, so that their id stays theirs
        return pair[1]

    def _place(self, images: Images) -> "Images | OnDevice":
        """A copy on the GPU for which those that were asked for the longest time ago make room."""
        there = {key: held.pixels.nbytes for key, (_, held) in self._held.items() if isinstance(held, OnDevice)}
        taken, size = sum(there.values()), images.pixels.nbytes
        room = self.resident * (free_memory(self.backbone.device) + taken)
        if size > room:
            return images
        for key, bytes_ in there.items():
            if taken + size > room:
                del self._held[key]
                taken -= bytes_
        return OnDevice.of(images, self.backbone.device)


class Scaled:
    """`pretrained + scaling * merged` for changing coefficients, in one set of buffers."""

    def __init__(self, pretrained: Mapping[str, Tensor], merged: Mapping[str, Tensor]) -> None:
        unknown = sorted(set(merged) - set(pretrained))
        if unknown:
            raise ValueError(f"the merged vector has {unknown[0]!r}, which is no parameter of this backbone")
        self._pretrained = pretrained
        self._merged = {name: tensor.to(pretrained[name].device) for name, tensor in merged.items()}
        self._params = {n: torch.empty_like(p) if n in merged else p for n, p in pretrained.items()}

    @torch.inference_mode()
    def at(self, scaling: float) -> dict[str, Tensor]:
        """The parameters at this coefficient; valid until the next call."""
        for name, tensor in self._merged.items():
            torch.add(self._pretrained[name], tensor, alpha=scaling, out=self._params[name])
        return self._params


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A tensor of an array's own copy; to a GPU through pinned memory, so that the processor need not wait."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take on a GPU; 0 on a CPU, whose memory is where images are anyway."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    taken, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    cap = torch.cuda.get_per_process_memory_fraction(device) * total
    return max(0, min(free + reserved, int(cap)) - taken)


def predict(features: Tensor, head: Tensor) -> Tensor:
    """Class indices [batch]. Features need no normalisation: a positive factor does not move the largest logit."""
    return (features @ head.T).argmax(dim=-1)
