"""What the task families share: colours, backgrounds, fonts, glyphs and the step from canvas to pixels.

Families draw on 64 x 64 canvases with Pillow; `develop` box-filters them to 32 x 32, which gives soft edges for a
quarter of the cost of supersampling later. Scalars come from `random.Random` and pixel noise from a NumPy generator,
both seeded by the caller: nothing here has state. Floating-point fields stay in float64, so that a last-place
difference between processors cannot reach the rounded byte.
"""

import colorsys
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.errors import BenchError

CANVAS = 64
PIXELS = 32

Colour = tuple[int, int, int]
Point = tuple[float, float]
Style = Literal["suite", "near", "broad"]
"""Of the tasks (`suite`), of what the backbone is pre-trained on (`broad`), or the suite's layout with the fonts of
`broad` (`near`): nothing is pre-trained on the suite's own letter shapes."""
Draw = Callable[[Random, int, Style], Image.Image]
"""`draw(rng, label, style)` of a family: an RGB canvas of 64 x 64 with one picture of the class `label` (its place in
the card's `classes`). Everything else about the picture is taken from `rng`, in one order, so equal seeds give equal
pictures; `style` says whose pictures these are."""

SUITE_FONTS = (
    *(f"STIXGeneral{cut}.ttf" for cut in ("", "Bol", "Italic", "BolIta")),
    *(f"cm{cut}10.ttf" for cut in ("r", "b", "ss", "tt")),
)
BROAD_FONTS = (
    *(f"DejaVuSans{cut}.ttf" for cut in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{cut}.ttf" for cut in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"DejaVuSansMono{cut}.ttf" for cut in ("", "-Bold")),
)


def package_folder(package: str) -> Path:
    """Folder of an installed package, found without importing it (matplotlib and scikit-learn take seconds)."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BenchError(f"mini8 draws with files of {package}, which is not installed; run `pip install {package}`")
    return Path(spec.submodule_search_locations[0])


@lru_cache(maxsize=512)
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of matplotlib's bundled fonts at a size in canvas pixels."""
    path = package_folder("matplotlib") / "mpl-data" / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def pick_font(rng: Random, style: Style, size: int) -> ImageFont.FreeTypeFont:
    return font(rng.choice(SUITE_FONTS if style == "suite" else BROAD_FONTS), size)


def tint(rng: Random, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """A random colour inside ranges of hue, saturation and value (each 0 to 1; hue wraps)."""
    r, g, b = colorsys.hsv_to_rgb(rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value))
    return round(255 * r), round(255 * g), round(255 * b)


def any_colour(rng: Random) -> Colour:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def shade(colour: Colour, factor: float) -> Colour:
    return min(255, int(colour[0] * factor)), min(255, int(colour[1] * factor)), min(255, int(colour[2] * factor))


def cloud(rng: Random, colours: Sequence[Colour], cells: int) -> Image.Image:
    """A smooth canvas: a `cells` x `cells` grid of the given colours, enlarged."""
    small = Image.new("RGB", (cells, cells))
    small.putdata([rng.choice(colours) for _ in range(cells * cells)])
    return small.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)


def plain(colour: Colour) -> Image.Image:
    return Image.new("RGB", (CANVAS, CANVAS), colour)


def ramp(top: Colour, bottom: Colour) -> Image.Image:
    """A vertical gradient."""
    small = Image.new("RGB", (1, 2))
    small.putdata([top, bottom])
    return small.resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)


def paste_text(
    image: Image.Image, text: str, face: ImageFont.FreeTypeFont, fill: Colour, centre: Point, angle: float
) -> None:
    """Draw `text` around `centre`, turned by `angle` degrees."""
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).text(centre, text, font=face, fill=255, anchor="mm")
    if angle:
        mask = mask.rotate(angle, Image.Resampling.BILINEAR, center=centre)
    image.paste(fill, mask=mask)


def affine(rng: Random, image: Image.Image, turn: float, shear: float, scale: tuple[float, float]) -> Image.Image:
    """Turn (radians, at most `turn`), shear and scale an image about its centre by random amounts."""
    a, s, z = rng.uniform(-turn, turn), rng.uniform(-shear, shear), 1 / rng.uniform(*scale)
    cos, sin, c = np.cos(a) * z, np.sin(a) * z, CANVAS / 2
    m = (cos, s * cos - sin, sin, s * sin + cos)
    offset = (c - m[0] * c - m[1] * c, c - m[2] * c - m[3] * c)
    return image.transform(
        image.size, Image.Transform.AFFINE, (m[0], m[1], offset[0], m[2], m[3], offset[1]), Image.Resampling.BILINEAR
    )


def ring(centre: Point, radius: float, corners: int, turn: float) -> list[Point]:
    """Corner points of a regular polygon; `turn` in radians, 0 puts the first corner on top."""
    angles = turn - np.pi / 2 + 2 * np.pi * np.arange(corners) / corners
    return [(centre[0] + radius * float(np.cos(a)), centre[1] + radius * float(np.sin(a))) for a in angles]


def disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: Colour) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def develop(canvas: np.ndarray, generator: np.random.Generator, noise: float) -> np.ndarray:
    """A canvas, uint8 [64, 64, 3], to pixels, uint8 [3, 32, 32].

    Box filter, then a random gain in 0.75..1.1 and offset in -20..20, then Gaussian pixel noise whose standard
    deviation is uniform in 0..`noise` (of 255) from image to image.
    """
    boxes = canvas.reshape(PIXELS, 2, PIXELS, 2, 3).astype(np.uint16).sum(axis=(1, 3))
    gain, offset, sigma = generator.uniform((0.75, -20.0, 0.0), (1.1, 20.0, noise))
    pixels = boxes * (gain / 4) + offset + sigma * generator.standard_normal(boxes.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).transpose(2, 0, 1)
