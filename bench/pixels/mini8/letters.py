"""Capital letters: 26 classes, one large glyph on a soft background.

The suite sets them in STIX and Computer Modern, turned a little; pre-training sees only the DejaVu families.
"""

from random import Random

from PIL import Image, ImageDraw

from bench.pixels.mini8.canvas import CANVAS, Style, cloud, paste_text, pick_font, plain, shade, tint

NOISE = 14.0
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    """One capital letter; arguments as `canvas.Draw` has them."""
    base = tint(rng, (0, 1), (0.1, 0.7), (0.06, 0.32))
    ink = tint(rng, (0, 1), (0.0, 0.3), (0.85, 1.0))
    if style == "broad":
        image = plain(base) if rng.random() < 0.4 else cloud(rng, [base, shade(base, 0.8), shade(base, 1.2)], 3)
        size, angle = rng.randrange(42, 64), rng.uniform(-6, 6)
    else:
        image = cloud(rng, [base, shade(base, 0.6), shade(base, 1.5)], 4)
        size, angle = rng.randrange(48, 60), rng.uniform(-8, 8)
        if rng.random() < 0.3:  # a scratch
            ends = [(rng.uniform(0, CANVAS), rng.uniform(0, CANVAS)) for _ in range(2)]
            ImageDraw.Draw(image).line(ends, fill=shade(ink, 0.7), width=2)
    centre = (CANVAS / 2 + rng.uniform(-2.5, 2.5), CANVAS / 2 + rng.uniform(-2.5, 2.5))
    paste_text(image, LETTERS[label], pick_font(rng, style, size), ink, centre, angle)
    return image
