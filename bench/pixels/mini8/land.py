"""Land cover seen from above: 10 classes after EuroSAT's, as mosaics of fields, roofs, trees and water."""

from math import cos, sin
from random import Random

from PIL import Image, ImageDraw

from bench.pixels.mini8.canvas import CANVAS, Colour, Style, affine, cloud, disc, shade, tint

NOISE = 16.0


def _soil(rng: Random, style: Style) -> list[Colour]:
    """Two or three near shades of farmland: the suite's season is drier than most of pre-training's."""
    hue = (0.1, 0.24) if style != "broad" else (0.08, 0.36)
    base = tint(rng, hue, (0.25, 0.6), (0.4, 0.75))
    return [base, shade(base, 0.85), shade(base, 1.12)]


def _annual_crop(rng: Random, style: Style) -> Image.Image:
    image = Image.new("RGB", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(image)
    x = -6.0
    while x < CANVAS:
        width = rng.uniform(12, 26)
        y = -6.0
        while y < CANVAS:
            height = rng.uniform(16, 40)
            fill = tint(rng, (0.08, 0.28), (0.2, 0.65), (0.4, 0.85))
            pen.rectangle((x, y, x + width, y + height), fill=fill)
            for furrow in range(int(x), int(x + width), 4):
                pen.line([(furrow, y), (furrow, y + height)], fill=shade(fill, 0.9))
            y += height
        x += width
    return affine(rng, image, 0.5, 0.1, (1.45, 1.7))


def _forest(rng: Random, style: Style) -> Image.Image:
    leaf = tint(rng, (0.26, 0.4), (0.4, 0.8), (0.2, 0.4))
    image = cloud(rng, [leaf, shade(leaf, 0.7)], 6)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randrange(50, 90)):
        disc(pen, rng.uniform(0, 64), rng.uniform(0, 64), rng.uniform(2, 4), shade(leaf, rng.uniform(0.55, 1.4)))
    return image


def _brushland(rng: Random, style: Style) -> Image.Image:
    soil = _soil(rng, style)
    image = cloud(rng, soil, 8)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randrange(12, 28)):
        x, y, radius = rng.uniform(0, 64), rng.uniform(0, 64), rng.uniform(1, 3)
        disc(pen, x, y, radius, tint(rng, (0.2, 0.35), (0.3, 0.6), (0.2, 0.4)))
    return image


def _highway(rng: Random, style: Style) -> Image.Image:
    image = cloud(rng, _soil(rng, style), 4)
    pen = ImageDraw.Draw(image)
    angle = rng.uniform(0, 3.14)
    dx, dy, x, y = cos(angle), sin(angle), 32 + rng.uniform(-10, 10), 32 + rng.uniform(-10, 10)
    ends = [(x - 60 * dx, y - 60 * dy), (x + 60 * dx, y + 60 * dy)]
    width = rng.randrange(9, 16)
    pen.line(ends, fill=tint(rng, (0, 1), (0, 0.1), (0.35, 0.6)), width=width)
    for start in range(-54, 63, 9):
        dash = [(x + t * dx, y + t * dy) for t in (start, start + 5)]
        pen.line(dash, fill=(235, 235, 225), width=2)
    return image


def _industry(rng: Random, style: Style) -> Image.Image:
    ground = tint(rng, (0, 1), (0, 0.12), (0.4, 0.6))
    image = cloud(rng, [ground, shade(ground, 0.85)], 4)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randrange(3, 6)):
        x, y, w, h = rng.uniform(0, 44), rng.uniform(0, 44), rng.uniform(14, 30), rng.uniform(10, 22)
        pen.rectangle((x + 2, y + 2, x + w + 3, y + h + 3), fill=shade(ground, 0.5))
        roof = tint(rng, (0.5, 0.68), (0, 0.3), (0.7, 1.0))
        pen.rectangle((x, y, x + w, y + h), fill=roof)
        for ridge in range(int(x) + 4, int(x + w), 6):
            pen.line([(ridge, y), (ridge, y + h)], fill=shade(roof, 0.88))
    return affine(rng, image, 0.5, 0.0, (1.35, 1.5))


def _pasture(rng: Random, style: Style) -> Image.Image:
    grass = tint(rng, (0.2, 0.32), (0.35, 0.6), (0.5, 0.75))
    image = cloud(rng, [grass, shade(grass, 0.92), shade(grass, 1.06)], 3)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randrange(1, 4)):  # hedges
        ends = [(rng.uniform(-5, 69), -2.0), (rng.uniform(-5, 69), 66.0)]
        if rng.random() < 0.5:
            ends = [(b, a) for a, b in ends]
        pen.line(ends, fill=shade(grass, 0.5), width=2)
    return image


def _orchard(rng: Random, style: Style) -> Image.Image:
    soil = _soil(rng, style)
    image = cloud(rng, soil, 3)
    pen = ImageDraw.Draw(image)
    leaf, step = tint(rng, (0.22, 0.36), (0.4, 0.7), (0.25, 0.45)), rng.uniform(7.5, 10.5)
    for i in range(-3, 12):
        for j in range(-3, 12):
            disc(pen, i * step + rng.uniform(-0.7, 0.7), j * step + rng.uniform(-0.7, 0.7), step * 0.32, leaf)
    return affine(rng, image, 0.7, 0.1, (1.4, 1.6))


def _homes(rng: Random, style: Style) -> Image.Image:
    garden = tint(rng, (0.2, 0.3), (0.2, 0.5), (0.4, 0.6))
    image = cloud(rng, [garden, shade(garden, 0.8), (140, 140, 130)], 6)
    pen = ImageDraw.Draw(image)
    for row in range(5):
        y = row * 14 + rng.uniform(-2, 2)
        if row % 2:
            pen.line([(-5, y - 3), (69, y - 3)], fill=(150, 150, 150), width=3)
        for column in range(6):
            x = column * 11.5 + rng.uniform(-2, 2)
            roof = tint(rng, (0, 0.08), (0.35, 0.75), (0.45, 0.85))
            w, h = rng.uniform(6, 8.5), rng.uniform(6, 8.5)
            pen.rectangle((x, y, x + w, y + h), fill=roof)
            pen.rectangle((x, y, x + w, y + h / 2), fill=shade(roof, 0.75))
    return affine(rng, image, 0.6, 0.1, (1.35, 1.5))


def _river(rng: Random, style: Style) -> Image.Image:
    image = cloud(rng, [*_soil(rng, style), tint(rng, (0.25, 0.35), (0.4, 0.6), (0.3, 0.5))], 5)
    pen = ImageDraw.Draw(image)
    water, swing, phase = tint(rng, (0.48, 0.6), (0.3, 0.7), (0.3, 0.6)), rng.uniform(5, 14), rng.uniform(0, 6)
    shift, bend = rng.uniform(-8, 8), rng.uniform(0.06, 0.12)
    course = [(32 + shift + swing * sin(bend * t + phase), float(t)) for t in range(-4, 70, 4)]
    if rng.random() < 0.5:
        course = [(b, a) for a, b in course]
    pen.line(course, fill=water, width=rng.randrange(8, 16), joint="curve")
    return image


def _lake(rng: Random, style: Style) -> Image.Image:
    water = tint(rng, (0.5, 0.64), (0.45, 0.85), (0.4, 0.75))
    image = cloud(rng, [water, shade(water, 0.92)], 3)
    if rng.random() < 0.6:  # a stretch of shore
        pen = ImageDraw.Draw(image)
        depth, land = rng.uniform(6, 20), _soil(rng, style)[0]
        edge = [(float(x), depth + 4 * sin(x / 9 + depth)) for x in range(-4, 70, 6)]
        pen.polygon([(-4, -4), *edge, (68, -4)], fill=land)
        image = image.rotate(rng.choice((0, 90, 180, 270)))
    return image


KINDS = (_annual_crop, _forest, _brushland, _highway, _industry, _pasture, _orchard, _homes, _river, _lake)


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    """A patch of land from above; arguments as `canvas.Draw` has them."""
    return KINDS[label](rng, style)
