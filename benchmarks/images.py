"""What one image costs on its way to the tower: the decode-once cache against PIL and open_clip's transform.

    python -m benchmarks.images [--count 32] [--rounds 5]                     1 minute on one core, no download

Files are drawn first: smooth colours, as JPEG or PNG in the sizes of the field's datasets. The reference opens each
file and applies open_clip's evaluation transform, as every epoch of a PIL pipeline does. Ours takes the same rows from
the memory-mapped cache, in random order, and normalises them. `build_seconds` is what decoding once costs for each
image; it is paid back after `build_pays_after` passes. All times are for one image. The floor is the bytes at the
measured read bandwidth: uint8 read, float32 written. The files are in the page cache for both.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor

from bench.pixels.images import normalise
from bench.pixels.sources import decode
from benchmarks import _machine as machine

KINDS = (("png", 64, 64), ("jpeg", 256, 256), ("jpeg", 500, 375), ("jpeg", 1024, 768))
SIZE = 224


def draw(folder: Path, kind: str, width: int, height: int, count: int) -> list[Path]:
    """`count` files of this kind and size: smooth random colours, which compress about as photographs do."""
    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        small = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
        path = folder / f"{i}.{kind}"
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


def cached(paths: Sequence[Path], folder: Path, size: int = SIZE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The files as the cache keeps them: decoded, resized and cropped, uint8 [n, 3, size, size], memory-mapped."""
    pixels = []
    for path in paths:
        with Image.open(path) as image:
            pixels.append(decode.pixels(decode.rgb(image, path.name), size))
    np.save(folder / "pixels.npy", np.stack(pixels))
    found: np.ndarray[Any, np.dtype[np.uint8]] = np.load(folder / "pixels.npy", mmap_mode="r")
    return found


def compare(kind: str, width: int, height: int, count: int, rounds: int, bandwidth: float) -> dict[str, Any]:
    """One row: seconds for one image of this kind."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    transform = image_transform(SIZE, is_train=False, mean=mean, std=std)
    shift, spread = (torch.tensor(x).view(1, 3, 1, 1) for x in (mean, std))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).numpy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = draw(folder, kind, width, height, count)
        pixels = cached(paths, folder)

        def pipeline() -> Tensor:
            return torch.stack([transform(Image.open(paths[i])) for i in order])

        def cache() -> Tensor:
            found: Tensor = normalise(torch.from_numpy(pixels[order]), shift, spread)
            return found

        gap = float((pipeline() - cache()).abs().max())
        times = machine.turns({"cache": cache, "pipeline": pipeline, "build": lambda: cached(paths, folder)}, rounds)
    per_image = {way: [t / count for t in found] for way, found in times.items()}
    saved = median(per_image["pipeline"]) - median(per_image["cache"])
    floor = 5 * 3 * SIZE**2 / bandwidth
    return machine.row(
        per_image["cache"],
        per_image["pipeline"],
        floor,
        build_seconds=machine.digits(median(per_image["build"])),
        build_pays_after=machine.digits(median(per_image["build"]) / saved),
        largest_difference=machine.digits(gap),
    )


def main() -> None:
    """Run, print one line a row, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "images.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    bandwidth = machine.peak_bytes()
    where = machine.setting(gigabytes_a_second=machine.digits(bandwidth / 1e9), images=asked.count, size=SIZE)
    rows: dict[str, Any] = {}
    for kind, width, height in KINDS:
        name = f"{kind}, {width}x{height}"
        rows[name] = compare(kind, width, height, asked.count, asked.rounds, bandwidth)
        machine.show(name, rows[name])
        machine.write(asked.out, where, rows)


if __name__ == "__main__":
    main()
