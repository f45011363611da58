"""Capital letters: 26 classes, one large glyph on a soft background.

The suite sets them in STIX and Computer Modern, turned a little; pre-training sees only the DejaVu families.
"""

from random import Random

from PIL import Image, ImageDraw

from bench.mini8.canvas import CANVAS, Style, any_colour, cloud, contrasting, paste_text, pick_font, plain, shade

NOISE = 14.0
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    base = any_colour(rng)
    ink = contrasting(rng, base, 90)
    if style == "broad":
        image = plain(base) if rng.random() < 0.4 else cloud(rng, [base, shade(base, 0.8), shade(base, 1.2)], 3)
        size, angle = rng.randrange(34, 64), rng.uniform(-12, 12)
    else:
        image = cloud(rng, [base, shade(base, 0.75), shade(base, 1.25)], 4)
        size, angle = rng.randrange(42, 60), rng.uniform(-15, 15)
        if rng.random() < 0.5:
            line = ImageDraw.Draw(image)
            ends = [(rng.uniform(0, CANVAS), rng.uniform(0, CANVAS)) for _ in range(2)]
            line.line(ends, fill=contrasting(rng, ink, 60), width=2)
    centre = (CANVAS / 2 + rng.uniform(-6, 6), CANVAS / 2 + rng.uniform(-6, 6))
    paste_text(image, LETTERS[label], pick_font(rng, style, size), ink, centre, angle)
    return image
