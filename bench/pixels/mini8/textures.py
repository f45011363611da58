"""Textures: 12 classes, each a two-colour field over the whole image.

The suite shows them slanted, warped, in close colours and uneven light; pre-training in wider scales and contrasts.
"""

from random import Random

import numpy as np
from PIL import Image

from bench.pixels.mini8.canvas import CANVAS, Style, cloud, tint

NOISE = 12.0
AXIS = (np.arange(CANVAS) + 0.5) / CANVAS * 2 - 1
GRID_Y, GRID_X = np.meshgrid(AXIS, AXIS, indexing="ij")

# Field functions: coordinates in units of the pattern's period -> mixing weight, 0 to 1.


def _soft(field: np.ndarray, sharpness: float = 5.0) -> np.ndarray:
    return np.clip(0.5 + sharpness * field, 0, 1)


def _striped(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _soft(np.sin(2 * np.pi * x) + rng.uniform(-0.3, 0.3), 2)


def _zigzagged(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    wave = np.abs((y * 0.6) % 1 - 0.5) * rng.uniform(1.6, 2.4)
    return _soft(np.sin(2 * np.pi * (x + wave)), 2)


def _dotted(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = x + 0.5 * (np.floor(y) % 2) * rng.choice((0, 1))
    return _soft(rng.uniform(0.26, 0.36) - np.hypot(x % 1 - 0.5, y % 1 - 0.5), 9)


def _chequered(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _soft(np.sin(np.pi * x) * np.sin(np.pi * y), 6)


def _grid(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    width = rng.uniform(0.1, 0.16)
    return _soft(width - np.minimum(np.abs(x % 1 - 0.5), np.abs(y % 1 - 0.5)), 12)


def _bricked(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row = np.floor(y)
    across = (x / 2 + 0.5 * (row % 2)) % 1
    joint = np.minimum(np.minimum(across, 1 - across) * 2, np.minimum(y % 1, 1 - y % 1))
    return _soft(joint - rng.uniform(0.08, 0.13), 10)


def _woven(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    over = (np.floor(x) + np.floor(y)) % 2
    along, across = np.where(over, x, y) % 1, np.where(over, y, x) % 1
    return np.clip(np.sin(np.pi * across) ** 0.8 * (0.65 + 0.35 * np.sin(np.pi * along)) * (0.55 + 0.45 * over), 0, 1)


def _scaly(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    shade = np.zeros_like(x)
    for step in (1, 0):  # the lower row of scales overlaps the upper one
        row = np.floor(y) + step
        dx, dy = (x + 0.5 * (row % 2)) % 1 - 0.5, y - row + 0.35
        inside = np.hypot(dx, dy * 0.75)
        shade = np.where((inside < 0.62) & (shade == 0), np.clip(1.15 - 1.7 * inside, 0.05, 1), shade)
    return shade


def _marbled(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    drift = _rough(rng, 5) * 2.2 + _rough(rng, 11) * 0.7
    return 1 - np.abs(np.sin(np.pi * (0.35 * x + drift))) ** 0.5


def _cracked(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    count = rng.randrange(8, 15)
    seeds = np.array([(rng.uniform(-1.2, 1.2), rng.uniform(-1.2, 1.2)) for _ in range(count)])
    far = np.hypot(GRID_X[..., None] - seeds[:, 0], GRID_Y[..., None] - seeds[:, 1])
    near = np.partition(far, 1, axis=-1)
    return _soft(near[..., 1] - near[..., 0] - rng.uniform(0.05, 0.09), 12)


def _bubbly(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    field = np.zeros_like(x)
    for _ in range(rng.randrange(9, 15)):
        radius = rng.uniform(0.15, 0.42)
        far = np.hypot(GRID_X - rng.uniform(-1, 1), GRID_Y - rng.uniform(-1, 1)) / radius
        field = np.where(far < 1, far**3, field)
    return field


def _spiralled(rng: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = GRID_X - rng.uniform(-0.3, 0.3), GRID_Y - rng.uniform(-0.3, 0.3)
    turns = rng.choice((-1, 1)) * np.arctan2(v, u)
    return _soft(np.sin(turns + np.hypot(u, v) * rng.uniform(12, 18) + rng.uniform(0, 6)), 2)


FIELDS = (
    _striped, _zigzagged, _dotted, _chequered, _grid, _bricked, _woven, _scaly, _marbled, _cracked, _bubbly, _spiralled,
)  # fmt: skip


def _rough(rng: Random, cells: int) -> np.ndarray:
    """A smooth random field in 0..1."""
    small = Image.new("L", (cells, cells))
    small.putdata([rng.randrange(256) for _ in range(cells * cells)])
    return np.asarray(small.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)) / 255.0


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    """A field of two colours; arguments as `canvas.Draw` has them."""
    broad = style == "broad"
    first = tint(rng, (0, 1), (0.2, 0.9), (0.1, 0.4) if broad else (0.2, 0.5))
    second = tint(rng, (0, 1), (0.0, 0.6), (0.75, 1.0))
    turn, period = rng.uniform(-0.4, 0.4), rng.uniform(0.32, 0.62) if broad else rng.uniform(0.36, 0.5)
    warp, phase = 0.0 if broad and rng.random() < 0.5 else rng.uniform(0, 0.1), rng.uniform(0, 6)
    u = GRID_X + warp * np.sin(2.5 * GRID_Y + phase)
    v = GRID_Y + warp * np.sin(2.5 * GRID_X + phase)
    x = (np.cos(turn) * u + np.sin(turn) * v) / period + rng.random()
    y = (np.cos(turn) * v - np.sin(turn) * u) / period + rng.random()
    weight = FIELDS[label](rng, x, y)[..., None]
    mixed = np.array(first) * (1 - weight) + np.array(second) * weight
    if not broad:  # uneven light
        light = np.asarray(cloud(rng, [(140,) * 3, (200,) * 3, (255,) * 3], 3)) / 255.0
        mixed = mixed * light
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
