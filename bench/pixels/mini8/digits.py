"""Handwritten digits: scikit-learn's bundled 8 x 8 set (1,797 real images), enlarged to 32 x 32.

For pre-training there are no real digits: strokes through hand-set points, shaken, are scanned at 8 x 8 likewise.
"""

from itertools import pairwise
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from bench.pixels.mini8.canvas import BROAD_FONTS, CANVAS, PIXELS, Style, affine, font, package_folder, paste_text

SHARES = {"train": 1000, "validation": 200, "test": 597}  # fixed split, stratified by class
NOISE = 0.0
STROKES = (
    ((50, 10, 25, 25, 22, 60, 45, 90, 72, 70, 75, 30, 50, 10),),
    ((35, 28, 52, 12, 52, 90),),
    ((25, 28, 45, 10, 72, 28, 55, 58, 24, 88, 78, 88),),
    ((25, 15, 60, 12, 70, 30, 45, 48, 72, 65, 60, 88, 24, 84),),
    ((55, 10, 22, 62, 80, 62), (60, 38, 58, 92)),
    ((75, 12, 32, 12, 28, 45, 62, 45, 72, 68, 55, 90, 24, 85),),
    ((65, 10, 35, 35, 26, 70, 50, 90, 72, 70, 55, 52, 30, 64),),
    ((22, 14, 76, 14, 52, 50, 42, 90), (32, 52, 68, 50)),
    ((50, 48, 28, 28, 50, 10, 72, 28, 50, 48, 26, 70, 50, 90, 74, 70, 50, 48),),
    ((70, 30, 50, 10, 30, 28, 48, 48, 70, 32, 66, 65, 48, 92),),
)


def real(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 3, 32, 32] and labels int64 [n] of one split, classes interleaved."""
    path = package_folder("sklearn") / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)  # [1797, 65]: 64 grey values 0..16 and the label
    labels = table[:, -1]
    order = np.random.default_rng(8).permutation(len(table))
    rank = np.empty(len(table))  # position inside its class, as a share, so that any cut is stratified
    for label in range(10):
        mine = order[labels[order] == label]
        rank[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    order = np.lexsort((labels, rank))
    start = {"train": 0, "validation": SHARES["train"], "test": SHARES["train"] + SHARES["validation"]}[split]
    rows = order[start : start + SHARES[split]]
    grey = (table[rows, :64].reshape(-1, 8, 8) * 255 // 16).astype(np.uint8)
    large = [Image.fromarray(small).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC) for small in grey]
    return np.stack([[image] * 3 for image in large]), labels[rows]


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    """A made-up handwritten digit, for pre-training only (every style but `near` adds colour and typeset digits)."""
    image = Image.new("RGB", (CANVAS, CANVAS))
    if style == "broad" and rng.random() < 0.3:
        face = font(rng.choice(BROAD_FONTS), rng.randrange(50, 66))
        paste_text(image, str(label), face, (255, 255, 255), (32, 32), 0)
    else:
        pen = ImageDraw.Draw(image)
        width = rng.randrange(7, 12)
        for stroke in STROKES[label]:
            flat = zip(stroke[::2], stroke[1::2], strict=True)
            points = [(x * 0.64 + rng.gauss(0, 2.2), y * 0.64 + rng.gauss(0, 2.2)) for x, y in flat]
            pen.line(_smooth(points), fill=(255, 255, 255), width=width, joint="curve")
    image = affine(rng, image, 0.15, 0.3, (0.9, 1.15))
    return image.resize((8, 8), Image.Resampling.BOX).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Two rounds of corner cutting (Chaikin); the end points stay."""
    for _ in range(2):
        cut = [points[0]]
        for (x0, y0), (x1, y1) in pairwise(points):
            cut += [(0.75 * x0 + 0.25 * x1, 0.75 * y0 + 0.25 * y1), (0.25 * x0 + 0.75 * x1, 0.25 * y0 + 0.75 * y1)]
        points = [*cut, points[-1]]
    return points
