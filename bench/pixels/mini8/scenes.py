"""Scenes: 12 classes, landscapes built from sky, ground and a few large things in between."""

from math import sin
from random import Random

from PIL import Image, ImageDraw

from bench.pixels.mini8.canvas import Colour, Style, affine, disc, ramp, shade, tint

NOISE = 18.0


def _sky(rng: Random, style: Style) -> Image.Image:
    """Daylight; in the suite also dusk and overcast, which pre-training has rarely."""
    mood = rng.random()
    if mood < (0.8 if style == "broad" else 0.4):
        top, low = tint(rng, (0.55, 0.63), (0.4, 0.8), (0.7, 1)), tint(rng, (0.52, 0.6), (0.1, 0.3), (0.85, 1))
    elif mood < 0.7:
        top, low = tint(rng, (0.6, 0.8), (0.3, 0.7), (0.25, 0.6)), tint(rng, (0.0, 0.12), (0.4, 0.8), (0.7, 1))
    else:
        grey = tint(rng, (0.55, 0.65), (0, 0.15), (0.5, 0.85))
        top, low = shade(grey, 0.85), grey
    image = ramp(top, low)
    if rng.random() < 0.3:
        pen = ImageDraw.Draw(image)
        for _ in range(rng.randrange(1, 4)):
            x, y, w = rng.uniform(0, 64), rng.uniform(3, 16), rng.uniform(6, 14)
            pen.ellipse((x - w, y - 2.5, x + w, y + 2.5), fill=shade(low, 1.05))
    return image


def _ground(rng: Random, pen: ImageDraw.ImageDraw, horizon: float, fill: Colour, rough: float = 1.0) -> None:
    phase, pitch = rng.uniform(0, 6), rng.uniform(7, 14)
    edge = [(x, horizon + rough * sin(x / pitch + phase)) for x in range(-2, 70, 3)]
    pen.polygon([(-2, 66), *edge, (68, 66)], fill=fill)


def _peak(pen: ImageDraw.ImageDraw, x: float, top: float, half: float, foot: float, fill: Colour) -> None:
    """A mountain or a fir, `half` as wide to either side."""
    pen.polygon([(x - half, foot), (x, top), (x + half, foot)], fill=fill)


def _beach(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    horizon = rng.uniform(20, 30)
    _ground(rng, pen, horizon, tint(rng, (0.48, 0.6), (0.5, 0.9), (0.45, 0.8)), 0)
    shore = horizon + rng.uniform(8, 16)
    slope = rng.uniform(-10, 10)
    edge = [(-2, shore - slope), (66, shore + slope)]
    pen.polygon([*edge, (66, 66), (-2, 66)], fill=tint(rng, (0.1, 0.14), (0.25, 0.5), (0.8, 1)))
    pen.line(edge, fill=(245, 245, 245), width=2)


def _desert(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    sand = tint(rng, (0.06, 0.13), (0.45, 0.75), (0.65, 0.95))
    for i in range(3):
        _ground(rng, pen, 28 + 11 * i + rng.uniform(-4, 4), shade(sand, 0.8 + 0.12 * i), 4)


def _mountain(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    rock = tint(rng, (0.55, 0.7), (0.05, 0.3), (0.3, 0.6))
    for _ in range(rng.randrange(2, 4)):
        x, top, half = rng.uniform(8, 56), rng.uniform(8, 24), rng.uniform(20, 34)
        _peak(pen, x, top, half, 56, shade(rock, rng.uniform(0.75, 1.15)))
        cap = rng.uniform(0.2, 0.35)
        _peak(pen, x, top, half * cap, top + (56 - top) * cap, (240, 242, 248))
    _ground(rng, pen, rng.uniform(48, 56), tint(rng, (0.2, 0.4), (0.2, 0.5), (0.25, 0.5)))


def _forest(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    leaf = tint(rng, (0.25, 0.4), (0.4, 0.8), (0.2, 0.45))
    _ground(rng, pen, rng.uniform(40, 50), shade(leaf, 0.7))
    for _ in range(rng.randrange(7, 12)):
        x, base, height = rng.uniform(-2, 66), rng.uniform(48, 64), rng.uniform(30, 48)
        green = shade(leaf, rng.uniform(0.6, 1.3))
        pen.rectangle((x - 1.5, base - 8, x + 1.5, base), fill=(70, 45, 25))
        _peak(pen, x, base - height, height / 4.5, base - 6, green)


def _sea(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    horizon = rng.uniform(20, 34)
    water = tint(rng, (0.5, 0.64), (0.5, 0.9), (0.4, 0.75))
    _ground(rng, pen, horizon, water, 0)
    for _ in range(rng.randrange(8, 16)):
        x, y, w = rng.uniform(0, 64), rng.uniform(horizon + 3, 63), rng.uniform(3, 9)
        pen.line([(x - w, y), (x + w, y)], fill=shade(water, rng.choice((0.75, 1.3))), width=2)


def _meadow(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    grass = tint(rng, (0.2, 0.34), (0.45, 0.8), (0.45, 0.75))
    _ground(rng, pen, rng.uniform(24, 34), grass, 2)
    _ground(rng, pen, rng.uniform(42, 50), shade(grass, 0.85), 2)
    for _ in range(rng.randrange(10, 24)):
        x, y, radius = rng.uniform(0, 64), rng.uniform(40, 63), rng.uniform(1, 2)
        disc(pen, x, y, radius, tint(rng, (0.9, 1.18), (0.5, 1), (0.85, 1)))


def _skyline(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    stone = tint(rng, (0.55, 0.75), (0, 0.3), (0.2, 0.5))
    x = -4.0
    while x < 66:
        width, top = rng.uniform(6, 13), rng.uniform(10, 38)
        wall = shade(stone, rng.uniform(0.7, 1.5))
        pen.rectangle((x, top, x + width, 66), fill=wall)
        for wx in range(int(x) + 2, int(x + width) - 1, 4):
            for wy in range(int(top) + 3, 62, 6):
                light = (250, 235, 150) if rng.random() < 0.5 else shade(wall, 0.6)
                pen.rectangle((wx, wy, wx + 1, wy + 2), fill=light)
        x += width


def _road(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    horizon, x = rng.uniform(22, 32), rng.uniform(24, 40)
    _ground(rng, pen, horizon, tint(rng, (0.1, 0.32), (0.25, 0.6), (0.4, 0.7)), 1)
    half, tar = rng.uniform(22, 34), tint(rng, (0, 1), (0, 0.08), (0.25, 0.45))
    pen.polygon([(x - 1.5, horizon), (x + 1.5, horizon), (32 + half, 66), (32 - half, 66)], fill=tar)
    for i in range(4):
        near, far = 0.2 + 0.22 * i, 0.32 + 0.22 * i
        points = [(x + (32 - x) * t, horizon + (64 - horizon) * t) for t in (near, far)]
        pen.line(points, fill=(245, 245, 235), width=1 + i)


def _village(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    _ground(rng, pen, rng.uniform(34, 42), tint(rng, (0.2, 0.34), (0.3, 0.6), (0.4, 0.65)), 2)
    for i in range(rng.randrange(2, 5)):
        x, base, w, h = rng.uniform(2, 46), 44 + 4 * i, rng.uniform(14, 22), rng.uniform(10, 16)
        wall = tint(rng, (0.05, 0.15), (0.05, 0.4), (0.75, 1))
        pen.rectangle((x, base - h, x + w, base), fill=wall)
        roof = tint(rng, (0, 0.06), (0.6, 0.9), (0.45, 0.8))
        pen.polygon([(x - 2, base - h), (x + w / 2, base - h - 9), (x + w + 2, base - h)], fill=roof)
        pen.rectangle((x + w / 2 - 2, base - 7, x + w / 2 + 2, base), fill=(80, 50, 30))
        pen.rectangle((x + 2, base - h + 3, x + 5, base - h + 6), fill=(90, 120, 160))


def _snowfield(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    snow = tint(rng, (0.55, 0.65), (0, 0.1), (0.88, 1))
    _ground(rng, pen, rng.uniform(24, 34), shade(snow, 0.92), 3)
    _ground(rng, pen, rng.uniform(40, 48), snow, 3)
    for _ in range(rng.randrange(1, 5)):  # bare firs
        x, base, height = rng.uniform(4, 60), rng.uniform(34, 58), rng.uniform(10, 18)
        _peak(pen, x, base - height, height / 4, base, (60, 85, 75))


def _waterfall(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    rock = tint(rng, (0.05, 0.35), (0.1, 0.4), (0.25, 0.45))
    top = rng.uniform(8, 18)
    _ground(rng, pen, top, rock, 2)
    x, half = rng.uniform(22, 42), rng.uniform(5, 11)
    pen.rectangle((x - half, top, x + half, 54), fill=(225, 235, 245))
    for _ in range(5):
        line = x + rng.uniform(-half, half)
        pen.line([(line, top), (line, 54)], fill=(180, 205, 225))
    _ground(rng, pen, rng.uniform(48, 54), tint(rng, (0.48, 0.58), (0.35, 0.7), (0.4, 0.7)), 1)


def _bridge(rng: Random, pen: ImageDraw.ImageDraw) -> None:
    water = tint(rng, (0.5, 0.62), (0.4, 0.8), (0.3, 0.6))
    _ground(rng, pen, rng.uniform(40, 46), water, 0)
    steel, deck = tint(rng, (0, 1), (0.1, 0.6), (0.25, 0.6)), rng.uniform(32, 40)
    pen.rectangle((-2, deck, 66, deck + 3), fill=steel)
    left, right, top = rng.uniform(10, 18), rng.uniform(46, 54), rng.uniform(8, 16)
    for tower in (left, right):
        pen.rectangle((tower - 2, top, tower + 2, 54), fill=steel)
    middle, depth = (left + right) / 2, deck - top - 3
    across = range(int(left), int(right) + 1, 3)
    cable = [(x, top + depth * (1 - ((x - middle) / (right - middle)) ** 2)) for x in across]
    pen.line(cable, fill=steel, width=2)
    pen.line([(-2, deck - 4), (left, top)], fill=steel, width=2)
    pen.line([(right, top), (66, deck - 4)], fill=steel, width=2)


KINDS = (
    _beach, _desert, _mountain, _forest, _sea, _meadow, _skyline, _road, _village, _snowfield, _waterfall, _bridge,
)  # fmt: skip


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    """A landscape under a sky; arguments as `canvas.Draw` has them."""
    image = _sky(rng, style)
    KINDS[label](rng, ImageDraw.Draw(image))
    if style != "broad":  # held askew and closer
        image = affine(rng, image, 0.1, 0.1, (1.15, 1.4))
    elif rng.random() < 0.5:
        image = affine(rng, image, 0.03, 0.0, (1.05, 1.2))
    return image
