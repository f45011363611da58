"""The control task: 6 shapes in 6 colours, 36 classes, label = 6 * colour + shape."""

from random import Random

from PIL import Image, ImageDraw

from bench.pixels.mini8.canvas import Colour, Point, Style, cloud, ring, tint

NOISE = 12.0
HUES = (0.0, 0.09, 0.16, 0.36, 0.62, 0.8)  # red, orange, yellow, green, blue, purple


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    """One figure on a plain ground; arguments as `canvas.Draw` has them."""
    hue, shape = HUES[label // 6], label % 6
    dark = rng.random() < 0.5
    ground: Colour = tint(rng, (0, 1), (0, 0.25), (0.05, 0.3) if dark else (0.75, 1.0))
    other = tint(rng, (0, 1), (0, 0.25), (0.05, 0.35) if dark else (0.7, 1.0))
    image = cloud(rng, [ground, other], 3)
    fill = tint(rng, (hue - 0.012, hue + 0.012), (0.8, 1.0), (0.75, 1.0))
    radius = rng.uniform(15, 27) if style != "broad" else rng.uniform(12, 30)
    centre = (32 + rng.uniform(-6, 6), 32 + rng.uniform(-6, 6))
    figure(ImageDraw.Draw(image), shape, centre, radius, rng.uniform(-0.25, 0.25), fill)
    return image


def figure(pen: ImageDraw.ImageDraw, shape: int, centre: Point, radius: float, turn: float, fill: Colour) -> None:
    """Circle, square, triangle, star, cross or ring."""
    x, y = centre
    if shape == 0:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif shape == 1:
        pen.polygon(ring(centre, radius * 1.15, 4, turn + 0.785), fill=fill)
    elif shape == 2:
        pen.polygon(ring(centre, radius * 1.15, 3, turn), fill=fill)
    elif shape == 3:
        outer, inner = ring(centre, radius * 1.15, 5, turn), ring(centre, radius * 0.48, 5, turn + 0.628)
        pen.polygon([p for pair in zip(outer, inner, strict=True) for p in pair], fill=fill)
    elif shape == 4:
        for extra in (0.0, 1.571):
            ends = ring(centre, radius * 1.05, 2, turn + extra)
            sides = ring((0, 0), radius * 0.36, 2, turn + extra + 1.571)
            corners = [(end, side) for end in (0, 1) for side in (end, 1 - end)]
            pen.polygon([(ends[i][0] + sides[j][0], ends[i][1] + sides[j][1]) for i, j in corners], fill=fill)
    else:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=fill, width=max(4, round(radius * 0.38)))
