"""Vehicles: 10 classes in side view on a road, facing either way, in any paint."""

from random import Random

from PIL import Image, ImageDraw, ImageOps

from bench.pixels.mini8.canvas import Colour, Style, affine, any_colour, cloud, disc, plain, shade, tint

NOISE = 16.0
GLASS: Colour = (165, 195, 215)
TYRE: Colour = (25, 25, 28)
GROUND = 46
Pen = ImageDraw.ImageDraw


def _wheels(pen: Pen, radius: float, *places: float) -> None:
    for x in places:
        disc(pen, x, GROUND - radius, radius, TYRE)
        disc(pen, x, GROUND - radius, radius * 0.45, (170, 170, 175))


def _hatchback(rng: Random, pen: Pen, paint: Colour) -> None:
    pen.polygon([(10, 41), (9, 32), (14, 22), (36, 21), (44, 30), (54, 32), (55, 41)], fill=paint)
    pen.polygon([(15, 30), (18, 24), (25, 24), (25, 30)], fill=GLASS)
    pen.polygon([(28, 30), (28, 24), (35, 24), (40, 30)], fill=GLASS)
    _wheels(pen, 5, 19, 46)


def _saloon(rng: Random, pen: Pen, paint: Colour) -> None:
    pen.polygon([(4, 41), (4, 33), (16, 31), (23, 24), (38, 24), (46, 31), (59, 33), (60, 41)], fill=paint)
    pen.polygon([(21, 31), (25, 26), (30, 26), (30, 31)], fill=GLASS)
    pen.polygon([(32, 31), (32, 26), (37, 26), (42, 31)], fill=GLASS)
    _wheels(pen, 5, 15, 49)


def _pickup(rng: Random, pen: Pen, paint: Colour) -> None:
    pen.polygon([(4, 40), (4, 29), (32, 29), (34, 20), (45, 20), (49, 29), (59, 31), (60, 40)], fill=paint)
    pen.rectangle((6, 29, 30, 32), fill=shade(paint, 0.5))
    pen.polygon([(36, 28), (37, 22), (43, 22), (46, 28)], fill=GLASS)
    _wheels(pen, 6, 15, 49)


def _van(rng: Random, pen: Pen, paint: Colour) -> None:
    pen.polygon([(5, 41), (5, 15), (42, 15), (52, 28), (57, 31), (57, 41)], fill=paint)
    pen.polygon([(38, 27), (38, 18), (42, 18), (49, 27)], fill=GLASS)
    pen.line([(22, 18), (22, 40)], fill=shade(paint, 0.75))
    _wheels(pen, 5, 15, 47)


def _bus(rng: Random, pen: Pen, paint: Colour) -> None:
    pen.rectangle((2, 14, 61, 42), fill=paint)
    for x in range(5, 56, 8):
        pen.rectangle((x, 18, x + 5, 27), fill=GLASS)
    pen.line([(2, 33), (61, 33)], fill=shade(paint, 0.65), width=2)
    _wheels(pen, 5, 14, 49)


def _lorry(rng: Random, pen: Pen, paint: Colour) -> None:
    pen.rectangle((1, 10, 42, 38), fill=tint(rng, (0, 1), (0, 0.35), (0.6, 1)))
    pen.polygon([(44, 40), (44, 18), (56, 18), (61, 29), (61, 40)], fill=paint)
    pen.polygon([(49, 28), (49, 21), (55, 21), (58, 28)], fill=GLASS)
    pen.rectangle((1, 38, 60, 41), fill=(50, 50, 55))
    _wheels(pen, 5, 9, 21, 52)


def _tractor(rng: Random, pen: Pen, paint: Colour) -> None:
    pen.rectangle((20, 26, 55, 36), fill=paint)
    pen.rectangle((14, 11, 33, 28), fill=paint)
    pen.rectangle((18, 14, 30, 26), fill=GLASS)
    pen.line([(48, 26), (48, 14)], fill=TYRE, width=2)
    _wheels(pen, 11, 19)
    _wheels(pen, 6, 50)


def _motorcycle(rng: Random, pen: Pen, paint: Colour) -> None:
    for x in (16, 48):
        pen.ellipse((x - 9, 28, x + 9, 46), outline=TYRE, width=4)
    pen.polygon([(20, 34), (24, 26), (40, 24), (44, 32), (34, 40), (24, 39)], fill=paint)
    pen.polygon([(12, 27), (28, 25), (27, 29), (14, 30)], fill=TYRE)
    pen.line([(48, 37), (42, 18), (37, 17)], fill=(90, 90, 95), width=3)


def _bicycle(rng: Random, pen: Pen, paint: Colour) -> None:
    for x in (16, 48):
        pen.ellipse((x - 10, 26, x + 10, 46), outline=TYRE, width=2)
    pen.line([(16, 36), (31, 36), (44, 22), (25, 22), (16, 36)], fill=paint, width=3)
    pen.line([(31, 36), (24, 17)], fill=paint, width=3)
    pen.line([(48, 36), (43, 15), (48, 14)], fill=paint, width=3)
    pen.line([(20, 17), (28, 17)], fill=TYRE, width=3)


def _tram(rng: Random, pen: Pen, paint: Colour) -> None:
    pen.line([(0, 5), (64, 5)], fill=(60, 60, 60))
    pen.line([(28, 12), (33, 5), (38, 12)], fill=(60, 60, 60), width=2)
    for left, right in ((0, 30), (33, 63)):
        pen.rectangle((left, 13, right, 43), fill=paint)
        pen.rectangle((left, 36, right, 43), fill=shade(paint, 0.5))
        for x in range(left + 3, right - 6, 9):
            pen.rectangle((x, 18, x + 6, 29), fill=GLASS)
    pen.line([(0, 46), (64, 46)], fill=(60, 60, 60), width=2)


KINDS = (_hatchback, _saloon, _pickup, _van, _bus, _lorry, _tractor, _motorcycle, _bicycle, _tram)


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    """One vehicle on a road; arguments as `canvas.Draw` has them."""
    paint = tint(rng, (0, 1), (0.1, 1), (0.25, 0.95))
    if style == "broad" and rng.random() < 0.4:
        image = plain(any_colour(rng))
    else:
        wall, tree = tint(rng, (0, 0.2), (0.1, 0.5), (0.4, 0.8)), tint(rng, (0.2, 0.4), (0.2, 0.6), (0.25, 0.6))
        image = cloud(rng, [wall, tree, tint(rng, (0.5, 0.6), (0.1, 0.5), (0.7, 1))], rng.randrange(2, 6))
    road = ImageDraw.Draw(image)
    road.rectangle((0, 43, 64, 64), fill=tint(rng, (0, 1), (0, 0.1), (0.3, 0.6)))
    layer = Image.new("RGBA", image.size)
    KINDS[label](rng, ImageDraw.Draw(layer), paint)
    if rng.random() < 0.5:
        layer = ImageOps.mirror(layer)
    turn, shear, scale = (0.04, 0.0, (0.9, 1.1)) if style == "broad" else (0.12, 0.12, (0.8, 1.15))
    layer = affine(rng, layer, turn, shear, scale)
    image.paste(layer, (rng.randrange(-3, 4), rng.randrange(-3, 4)), layer)
    return image
