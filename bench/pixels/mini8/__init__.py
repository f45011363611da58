"""`mini8`: eight small image classification tasks and a control, drawn on first use instead of downloaded.

    images, labels = render("signs", "train", 1600)   # uint8 [1600, 3, 32, 32], int64 [1600]

Class names, templates, row counts and checksums are in the cards under `datasets/`; one module of this package draws
each task. Train, validation and test come from separate seeds; row i of a split has label i modulo the number of
classes and does not depend on how many rows follow, so a prefix is balanced and equal everywhere. The digits are
real: scikit-learn's bundled set.
"""

import hashlib
from random import Random

import numpy as np

from bench.errors import BenchError
from bench.pixels.mini8 import digits, land, letters, numbers, scenes, shapes, signs, textures, vehicles
from bench.pixels.mini8.canvas import PIXELS, Draw, Style, develop

CLASSES = {
    "digits": 10,
    "numbers": 10,
    "letters": 26,
    "textures": 12,
    "signs": 20,
    "land": 10,
    "scenes": 12,
    "vehicles": 10,
    "shapes": 36,
}
FAMILIES: dict[str, tuple[Draw, float]] = {
    module.__name__.rpartition(".")[2]: (module.draw, module.NOISE)
    for module in (digits, numbers, letters, textures, signs, land, scenes, vehicles, shapes)
}
SPLITS = ("train", "validation", "test")


def render(task: str, split: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `rows` images, uint8 [rows, 3, 32, 32], and labels, int64 [rows], of one split of one task."""
    if task not in CLASSES or split not in SPLITS:
        raise BenchError(f"mini8 has no {task!r}/{split!r}; tasks: {', '.join(CLASSES)}; splits: {', '.join(SPLITS)}")
    if task == "digits":
        images, labels = digits.real(split)
        if rows > len(images):
            raise BenchError(f"digits/{split} has {len(images)} images, {rows} were asked for; correct the card")
        return images[:rows], labels[:rows]
    labels = np.arange(rows) % CLASSES[task]
    return draw_rows(task, f"mini8/{task}/{split}", labels, "suite"), labels


def draw_rows(task: str, seed: str, labels: np.ndarray, style: Style) -> np.ndarray:
    """One image for each label, uint8 [n, 3, 32, 32]; the first k do not depend on how many follow."""
    draw, noise = FAMILIES[task]
    key = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little")
    generator = np.random.default_rng(key)
    images = np.empty((len(labels), 3, PIXELS, PIXELS), np.uint8)
    for i, label in enumerate(labels):
        canvas = np.asarray(draw(Random(f"{seed}/{i}"), int(label), style))
        images[i] = develop(canvas, generator, noise)
    return images
