"""House numbers: 10 classes, the digit in the middle counts, its neighbours are clutter.

The suite sets them in STIX and Computer Modern on two-tone walls; pre-training sees only the DejaVu families.
"""

from random import Random

from PIL import Image, ImageDraw

from bench.mini8.canvas import CANVAS, Style, any_colour, cloud, contrasting, paste_text, pick_font, plain, shade

NOISE = 14.0


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    wall = any_colour(rng)
    ink = contrasting(rng, wall, 75)
    if style == "broad" and rng.random() < 0.3:
        image = plain(wall)
    else:
        image = cloud(rng, [wall, shade(wall, 0.7), shade(wall, 1.2)], rng.randrange(2, 5))
    pen = ImageDraw.Draw(image)
    if rng.random() < 0.5:  # the edge of a plate, a door frame
        y = rng.uniform(2, 10)
        pen.rectangle((rng.uniform(-4, 6), y, rng.uniform(58, 68), 64 - y), outline=shade(wall, 0.5), width=2)
    size = rng.randrange(44, 60)
    face = pick_font(rng, style, size)
    angle, step = rng.uniform(-8, 8), size * rng.uniform(0.56, 0.66)
    x, y = CANVAS / 2 + rng.uniform(-3, 3), CANVAS / 2 + rng.uniform(-4, 4)
    alone = 0.6 if style == "broad" else 0.25
    for side in (-1, 1):
        if rng.random() >= alone:
            paste_text(image, str(rng.randrange(10)), face, ink, (x + side * step, y), angle)
    paste_text(image, str(label), face, ink, (x, y), angle)
    return image
