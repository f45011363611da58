"""A contact sheet: every class of every mini8 task, so that a person can look at what is being measured."""

from PIL import Image, ImageDraw

from bench.pixels.mini8 import CLASSES, render
from bench.pixels.mini8.canvas import PIXELS, font

EACH, COLUMNS = 3, 6
"""Images of a class, and classes in a row."""
SIDE = 2 * PIXELS
TILE = (EACH * SIDE + 4, SIDE + 18)
"""Width and height of a class with its name, in pixels."""
TITLE = 22


def contact_sheet(names: dict[str, list[str]]) -> Image.Image:
    """Training images of each class, under the task's name and above the class's.

    `names` maps each task to its class names in label order (the cards have them); tasks without an entry are left
    out.
    """
    blocks = [_block(task, classes) for task, classes in names.items()]
    sheet = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _block(task: str, classes: list[str]) -> Image.Image:
    images, labels = render(task, "train", CLASSES[task] * EACH)
    width, height = TILE
    block = Image.new("RGB", (COLUMNS * width, -(-len(classes) // COLUMNS) * height + TITLE), "white")
    pen = ImageDraw.Draw(block)
    pen.text((2, 3), task, font=font("DejaVuSans-Bold.ttf", 14), fill="black")
    for label, name in enumerate(classes):
        left, top = label % COLUMNS * width, TITLE + label // COLUMNS * height
        for i, image in enumerate(images[labels == label][:EACH]):
            picture = Image.fromarray(image.transpose(1, 2, 0)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            block.paste(picture, (left + i * SIDE, top))
        pen.text((left + 1, top + SIDE), name, font=font("DejaVuSans.ttf", 12), fill="black")
    return block
