"""A contact sheet: every class of every mini8 task, so that a person can look at what is being measured."""

from PIL import Image, ImageDraw

from bench.pixels.mini8 import CLASSES, render
from bench.pixels.mini8.canvas import PIXELS, font

ACROSS = 18
CAPTION = 9


def contact_sheet(names: dict[str, list[str]], per_class: int = 3, zoom: int = 2) -> Image.Image:
    """Training images, `per_class` for each class, under the task's name and above the class's.

    `names` maps each task to its class names in label order (the cards have them); tasks without an entry are left
    out. Classes run in rows of at most `ACROSS` images.
    """
    side, blocks = PIXELS * zoom, []
    for task, classes in names.items():
        images, labels = render(task, "train", CLASSES[task] * per_class)
        tiles = []
        for label, name in enumerate(classes):
            tile = Image.new("RGB", (per_class * side + 4, side + CAPTION * 2), "white")
            for i, image in enumerate(images[labels == label][:per_class]):
                picture = Image.fromarray(image.transpose(1, 2, 0)).resize((side, side), Image.Resampling.NEAREST)
                tile.paste(picture, (i * side, 0))
            ImageDraw.Draw(tile).text((1, side), name, font=font("DejaVuSans.ttf", CAPTION + 3), fill="black")
            tiles.append(tile)
        blocks.append(_block(task, tiles, max(1, ACROSS // per_class)))
    sheet = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _block(title: str, tiles: list[Image.Image], columns: int) -> Image.Image:
    width, height = tiles[0].size
    rows = -(-len(tiles) // columns)
    block = Image.new("RGB", (columns * width, rows * height + 22), "white")
    ImageDraw.Draw(block).text((2, 3), title, font=font("DejaVuSans-Bold.ttf", 14), fill="black")
    for i, tile in enumerate(tiles):
        block.paste(tile, (i % columns * width, 22 + i // columns * height))
    return block
