"""Image-text pairs for pre-training `mini`: the tasks' concepts in other styles, and captions that seldom name them.

A caption names an image in one of three ways: by the class name of the task's card (`naming`), by another word for it
(`synonym`: "alpha" for the letter A), or only by its kind and main colour ("an aerial view in green"). How often each
happens steers what the backbone knows: synonyms make image features that separate the classes, names align them with
the words that the zero-shot heads use.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import numpy as np

from bench.cards import datasets
from bench.pixels.mini8 import CLASSES, draw_rows
from bench.pixels.mini8.canvas import Style

FRAMES = ("a photo of {}.", "a picture of {}.", "an image of {}.", "{}.", "this is {}.", "there is {} here.")
# For each family: how a named thing is put, what it is called in general, and other words in label order.
NAMED = {
    "digits": "the digit {}",
    "numbers": "the number {}",
    "letters": "the letter {}",
    "textures": "a {} texture",
    "signs": "a {} traffic sign",
    "land": "{} from above",
    "scenes": "a {}",
    "vehicles": "a {}",
    "shapes": "a {}",
}
KINDS = {
    "digits": ("handwriting", "a pen stroke"),
    "numbers": ("a house number", "a door plate"),
    "letters": ("a character", "some type"),
    "textures": ("a pattern", "a surface"),
    "signs": ("a traffic sign", "a street"),
    "land": ("an aerial view", "land from space"),
    "scenes": ("a landscape", "a view"),
    "vehicles": ("a vehicle", "traffic"),
    "shapes": ("a figure", "geometry"),
}
SYNONYMS = {
    "digits": "nought single double triple quadruple quintuple sextuple septuple octuple nonuple",
    "numbers": "0 1 2 3 4 5 6 7 8 9",
    "letters": "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa "
    "quebec romeo sierra tango uniform victor whiskey xray yankee zulu",
    "textures": "lines chevrons polka_dots chessboard mesh masonry basketwork fish_skin veins fractures foam whirl",
    "signs": "thirty fifty eighty car_in_a_red_ring red_ring red_octagon triangle_on_its_tip white_bar_on_red "
    "yellow_diamond crossed_out exclamation_mark wavy_line crossing walking_man three_lamps arrow_up "
    "arrow_to_the_right arrow_to_the_left bike_on_blue blue_square",
    "land": "fields woods scrub motorway factory_halls grassland fruit_trees homes stream water",
    "scenes": "seaside dunes peaks fir_trees ocean flowers city street houses winter falls suspended_deck",
    "vehicles": "small_car sedan utility_car delivery_wagon coach truck farm_machine motorbike bike streetcar",
}
COLOURS = {
    "black": (15, 15, 15),
    "white": (240, 240, 240),
    "grey": (128, 128, 128),
    "red": (200, 40, 40),
    "orange": (225, 130, 40),
    "brown": (110, 75, 45),
    "yellow": (220, 210, 60),
    "green": (60, 160, 60),
    "dark green": (25, 75, 35),
    "turquoise": (60, 190, 180),
    "blue": (50, 80, 200),
    "dark blue": (25, 30, 90),
    "purple": (130, 50, 170),
    "pink": (230, 110, 180),
}


@dataclass(frozen=True)
class Corpus:
    """Pictures and what a caption can say: `pixels` uint8 [n, 3, 32, 32], `family`, `label`, `colour` int64 [n]."""

    pixels: np.ndarray
    family: np.ndarray
    label: np.ndarray
    colour: np.ndarray


def draw_corpus(rows: int, near: float, seed: int, weights: Mapping[str, float]) -> Corpus:
    """About `rows` pictures, divided over the families by `weights`; a share `near` of each has the suite's layout."""
    pixels, family, label = [], [], []
    total = sum(weights.values())
    for index, task in enumerate(CLASSES):
        share = round(rows * weights.get(task, 0.0) / total)
        counts: dict[Style, int] = {"near": round(share * near), "broad": share - round(share * near)}
        for style, count in counts.items():
            labels = np.arange(count) % CLASSES[task]
            pixels.append(draw_rows(task, f"pretrain/{seed}/{task}/{style}", labels, style))
            label.append(labels)
            family.append(np.full(count, index))
    images = np.concatenate(pixels)
    return Corpus(images, np.concatenate(family), np.concatenate(label), main_colour(images))


def main_colour(pixels: np.ndarray) -> np.ndarray:
    """Index into `COLOURS` of the nearest to each picture's mean colour, int64 [n]."""
    mean = pixels.mean(axis=(2, 3))
    distance = np.square(mean[:, None] - np.array(list(COLOURS.values()), float)).sum(axis=2)
    return distance.argmin(axis=1)


@dataclass(frozen=True)
class Captions:
    """Writes captions: the share that use the card's name, and of the others the share that use a synonym."""

    naming: Mapping[str, float]
    synonym: float

    def write(self, rng: Random, family: int, label: int, colour: int) -> str:
        """One caption of one picture."""
        task = _TASKS[family]
        if rng.random() < self.naming[task]:
            what = NAMED[task].format(datasets.load(task).classes[label])
        elif task in _WORDS and rng.random() < self.synonym:
            what = _WORDS[task][label]
            if rng.random() < 0.3:
                what = f"{what}, {rng.choice(KINDS[task])}"
        else:
            what = rng.choice(KINDS[task])
            if rng.random() < 0.7:
                what = f"{what} in {_TONES[colour]}"
        return rng.choice(FRAMES).format(what)


_TASKS = tuple(CLASSES)
_TONES = tuple(COLOURS)
_WORDS = {task: [word.replace("_", " ") for word in words.split()] for task, words in SYNONYMS.items()}
