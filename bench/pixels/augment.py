"""Random resized crops of decoded images, on the device they are on: the augmentation of the reference code.

    area of the crop ~ U(0.9, 1) of the image, log of its aspect ratio ~ U(log 3/4, log 4/3), first of ten draws that
    fits, else the whole image; scaled to the old size with Pillow's bicubic kernel (a = -1/2), rounded to uint8

as torchvision's RandomResizedCrop(scale=(0.9, 1)) does, except that it starts from the decoded square and not from the
file. A crop is two products with banded matrices, so a batch costs about a hundredth of a training step on a GPU.
"""

import math

import torch
from torch import Tensor

SCALE, RATIO, TRIES = (0.9, 1.0), (3 / 4, 4 / 3), 10


def boxes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random crops int64 `[count, 4]` of squares of `size` pixels: top, left, height, width."""
    area, ratio = torch.rand(2, count, TRIES, generator=generator, dtype=torch.float64)
    area = size * size * (SCALE[0] + (SCALE[1] - SCALE[0]) * area)
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    ratio = (low + (high - low) * ratio).exp()
    width, height = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (width <= size) & (height <= size)
    first = fits.long().argmax(dim=1, keepdim=True)
    sides = [torch.where(fits.any(dim=1), side.gather(1, first)[:, 0], size) for side in (height, width)]
    place = torch.rand(2, count, generator=generator, dtype=torch.float64)
    top, left = ((p * (size - side + 1)).long() for p, side in zip(place, sides, strict=True))
    return torch.stack([top, left, *sides], dim=1)


def crop(pixels: Tensor, where: Tensor) -> Tensor:
    """Cut `where` (as `boxes` gives it) out of uint8 `[n, 3, size, size]` and scale it to the old size."""
    top, left, height, width = where.to(pixels.device).unbind(dim=1)
    across = _weights(left, width, pixels.shape[-1]).unsqueeze(1)
    down = _weights(top, height, pixels.shape[-2]).unsqueeze(1)
    rows = (pixels.float() @ across.mT).round_().clamp_(0, 255)  # Pillow rounds between its two passes
    return (down @ rows).round_().clamp_(0, 255).to(torch.uint8)


def _weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """`[n, size, size]`: how much of each pixel of a line goes into each pixel of the scaled cut."""
    at = torch.arange(size, device=start.device, dtype=torch.float64)
    start, length = start.double().view(-1, 1, 1), length.double().view(-1, 1, 1)
    centre = start + (at.view(1, -1, 1) + 0.5) * length / size
    weight = _bicubic((at.view(1, 1, -1) + 0.5 - centre).abs())
    weight = weight * ((at >= start) & (at < start + length))
    return (weight / weight.sum(dim=-1, keepdim=True)).float()


def _bicubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -1/2 at distances x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
