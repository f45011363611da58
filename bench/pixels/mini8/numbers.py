"""House numbers: 10 classes, the digit in the middle counts, its neighbours are clutter.

The suite sets them in STIX and Computer Modern on two-tone walls; pre-training sees only the DejaVu families.
"""

from random import Random

from PIL import Image, ImageDraw

from bench.pixels.mini8.canvas import CANVAS, Style, cloud, paste_text, pick_font, plain, shade, tint

NOISE = 14.0


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    """A digit between others, on a wall; arguments as `canvas.Draw` has them."""
    wall = tint(rng, (0, 1), (0.1, 0.8), (0.12, 0.45))
    ink = tint(rng, (0, 1), (0.0, 0.4), (0.85, 1.0))
    if style == "broad" and rng.random() < 0.3:
        image = plain(wall)
    else:
        image = cloud(rng, [wall, shade(wall, 0.6), shade(wall, 1.3)], rng.randrange(2, 5))
    pen = ImageDraw.Draw(image)
    if rng.random() < 0.5:  # the edge of a plate, a door frame
        y = rng.uniform(2, 10)
        pen.rectangle((rng.uniform(-4, 6), y, rng.uniform(58, 68), 64 - y), outline=shade(wall, 0.5), width=2)
    size = rng.randrange(52, 62)
    face = pick_font(rng, style, size)
    angle, step = rng.uniform(-6, 6), size * rng.uniform(0.6, 0.7)
    x, y = CANVAS / 2 + rng.uniform(-2.5, 2.5), CANVAS / 2 + rng.uniform(-3, 3)
    alone = 0.6 if style == "broad" else 0.25
    for side in (-1, 1):
        if rng.random() >= alone:
            paste_text(image, str(rng.randrange(10)), face, ink, (x + side * step, y), angle)
    paste_text(image, str(label), face, ink, (x, y), angle)
    return image
