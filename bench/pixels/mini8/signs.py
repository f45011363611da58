"""Traffic signs: 20 classes, a frame and a symbol, seen a little aslant in front of a blurred street."""

from random import Random

from PIL import Image, ImageDraw

from bench.pixels.mini8.canvas import (
    CANVAS,
    Colour,
    Style,
    affine,
    any_colour,
    cloud,
    disc,
    font,
    paste_text,
    ring,
    shade,
    tint,
)

NOISE = 16.0
WORDS = {"30": 25, "50": 25, "80": 25, "STOP": 17, "P": 42}
"""Symbols that are written, and how large."""
BLACK: Colour = (20, 20, 20)
WHITE: Colour = (245, 245, 245)
ARROWS = {"ahead": 0, "right": 1, "left": -1}
# Label order: frame, symbol.
SIGNS = (
    ("limit", "30"), ("limit", "50"), ("limit", "80"), ("limit", "car"), ("limit", "empty"),
    ("stop", "STOP"), ("yield", "empty"), ("entry", "bar"), ("priority", "empty"), ("free", "slash"),
    ("warning", "!"), ("warning", "curve"), ("warning", "cross"), ("warning", "walker"), ("warning", "lights"),
    ("order", "ahead"), ("order", "right"), ("order", "left"), ("order", "bicycle"), ("notice", "P"),
)  # fmt: skip
FRAMES: dict[str, tuple[int, float, float, tuple[tuple[float, str], ...]]] = {
    "limit": (0, 32, 0, ((27, "red"), (20, "white"))),
    "stop": (8, 32, 0.393, ((29, "white"), (27, "red"))),
    "yield": (3, 27, 3.1416, ((32, "red"), (18, "white"))),
    "entry": (0, 32, 0, ((27, "red"),)),
    "priority": (4, 32, 0, ((30, "white"), (22, "amber"))),
    "free": (0, 32, 0, ((27, "black"), (25, "white"))),
    "warning": (3, 36, 0, ((33, "red"), (22, "white"))),
    "order": (0, 32, 0, ((27, "white"), (25, "blue"))),
    "notice": (0, 32, 0, ()),
}
"""Corners (0: round), height of the centre, turn in radians, and radius and paint of what lies on top of another."""


def draw(rng: Random, label: int, style: Style) -> Image.Image:
    """One sign in front of a street; arguments as `canvas.Draw` has them."""
    frame, symbol = SIGNS[label]
    layer = Image.new("RGBA", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(layer)
    worn = rng.uniform(0.75, 1.0)
    paint = {
        "red": shade(tint(rng, (-0.02, 0.02), (0.8, 1), (0.75, 0.95)), worn),
        "blue": shade(tint(rng, (0.57, 0.64), (0.75, 1), (0.6, 0.9)), worn),
        "white": shade(WHITE, worn),
        "amber": shade((250, 190, 20), worn),
        "black": BLACK,
    }
    corners, y, turn, layers = FRAMES[frame]
    for radius, colour in layers:
        if corners:
            pen.polygon(ring((32, y), radius, corners, turn), fill=paint[colour])
        else:
            disc(pen, 32, y, radius, paint[colour])
    if frame == "notice":
        pen.rectangle((8, 8, 56, 56), fill=paint["white"])
        pen.rectangle((10, 10, 54, 54), fill=paint["blue"])
    _symbol(layer, symbol, paint["white"])
    image = _street(rng, style)
    tilt, size = (0.22, (0.8, 1.05)) if style != "broad" else (0.15, (0.65, 1.1))
    sign = affine(rng, layer, tilt, 0.15, size)
    image.paste(sign, (rng.randrange(-5, 6), rng.randrange(-5, 6)), sign)
    return image


def _street(rng: Random, style: Style) -> Image.Image:
    if style == "broad" and rng.random() < 0.5:
        return cloud(rng, [any_colour(rng), any_colour(rng)], 2)
    sky, wall = tint(rng, (0.5, 0.65), (0, 0.4), (0.5, 1)), tint(rng, (0, 0.4), (0, 0.5), (0.15, 0.6))
    return cloud(rng, [sky, wall, shade(wall, 0.6)], rng.randrange(3, 6))


def _symbol(layer: Image.Image, symbol: str, white: Colour) -> None:
    pen = ImageDraw.Draw(layer)
    if symbol in WORDS:
        face, ink = font("DejaVuSans-Bold.ttf", WORDS[symbol]), BLACK if symbol.isdigit() else white
        paste_text(layer, symbol, face, ink, (32, 32), 0)
    elif symbol == "!":
        pen.polygon([(29, 24), (35, 24), (33.5, 39), (30.5, 39)], fill=BLACK)
        disc(pen, 32, 44, 3, BLACK)
    elif symbol == "curve":
        pen.line([(26, 47), (26, 38), (37, 34), (37, 26)], fill=BLACK, width=5, joint="curve")
    elif symbol == "cross":
        pen.line([(25, 28), (39, 46)], fill=BLACK, width=5)
        pen.line([(39, 28), (25, 46)], fill=BLACK, width=5)
    elif symbol == "walker":
        disc(pen, 32, 25, 3, BLACK)
        pen.line([(32, 27), (31, 38), (26, 46)], fill=BLACK, width=3)
        pen.line([(31, 38), (37, 46)], fill=BLACK, width=3)
        pen.line([(26, 34), (32, 30), (39, 34)], fill=BLACK, width=2)
    elif symbol == "lights":
        for y, colour in ((25, (220, 20, 20)), (34, (240, 190, 0)), (43, (10, 150, 60))):
            disc(pen, 32, y, 4.4, colour)
    elif symbol == "car":
        pen.rectangle((20, 31, 44, 39), fill=BLACK)
        pen.polygon([(24, 31), (28, 24), (37, 24), (41, 31)], fill=BLACK)
        for x in (25, 39):
            disc(pen, x, 40, 3.4, BLACK)
    elif symbol == "bicycle":
        for x in (22, 42):
            pen.ellipse((x - 8, 30, x + 8, 46), outline=white, width=3)
        pen.line([(22, 38), (29, 26), (39, 26), (42, 38)], fill=white, width=3)
        pen.line([(29, 26), (33, 38), (39, 26)], fill=white, width=3)
    elif symbol == "bar":
        pen.rectangle((13, 27, 51, 37), fill=white)
    elif symbol == "slash":
        for shift in (-6, 0, 6):
            pen.line([(18 + shift, 46), (46 + shift, 18)], fill=BLACK, width=3)
    elif symbol in ARROWS:
        _arrow(pen, white, ARROWS[symbol])


def _arrow(pen: ImageDraw.ImageDraw, fill: Colour, turn: int) -> None:
    """An arrow up (0), to the right (1) or to the left (-1)."""
    shaft, head = [(32, 50), (32, 26)], [(32, 12), (20, 28), (44, 28)]
    if turn:
        shaft = [(32 - 18 * turn, 32), (32 + 6 * turn, 32)]
        head = [(32 + 20 * turn, 32), (32 + 4 * turn, 20), (32 + 4 * turn, 44)]
    pen.line(shaft, fill=fill, width=8)
    pen.polygon(head, fill=fill)
