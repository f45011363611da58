"""The cards of the paper's tasks, the control and the field's 14- and 20-task extensions, against published facts."""

import pytest

from bench.cards import datasets
from bench.cards.datasets import Folder, Hub, Torchvision
from bench.pixels.sources.folder import LAYOUTS, VISION
from bench.pixels.sources.holdout import validation_size
from bench.pixels.sources.labels import plain
from bench.pixels.sources.vision import KINDS

# classes, templates, training images in all, test images, epochs
VISION8 = {
    "cars": (196, 8, 8_144, 8_041, 35),
    "dtd": (47, 8, 3_760, 1_880, 76),
    "eurosat": (10, 3, 21_600, 2_700, 12),
    "gtsrb": (43, 3, 26_640, 12_630, 11),
    "mnist": (10, 1, 60_000, 10_000, 5),
    "resisc45": (45, 18, 18_900, 6_300, 15),
    "sun397": (397, 2, 19_850, 19_850, 14),
    "svhn": (10, 1, 73_257, 26_032, 4),
}
MORE = {
    "cifar100": (100, 18, 50_000, 10_000, 6),
    "stl10": (10, 2, 5_000, 8_000, 60),
    "flowers102": (102, 1, 1_020, 6_149, 147),
    "oxford_pets": (37, 1, 3_680, 3_669, 82),
    "pcam": (2, 1, 262_144, 32_768, 1),
    "fer2013": (7, 6, 28_709, 7_178, 10),
    "emnist": (26, 1, 124_800, 20_800, 2),
    "cifar10": (10, 18, 50_000, 10_000, 6),
    "food101": (101, 1, 75_750, 25_250, 4),
    "fashion_mnist": (10, 2, 60_000, 10_000, 5),
    "rendered_sst2": (2, 1, 6_920, 1_821, 39),
    "kmnist": (10, 1, 60_000, 10_000, 5),
}
ALL = VISION8 | MORE
EVERY = [*ALL, "imagenet", "eurosat_tta"]


@pytest.mark.parametrize("name", ALL)
def test_sizes_and_recipe(name: str) -> None:
    classes, templates, train, test, epochs = ALL[name]
    card = datasets.load(name)
    assert len(card.classes) == classes
    assert len(card.templates) == templates
    held = validation_size(train)
    sizes = {split: found.rows for split, found in card.splits.items()}
    assert sizes == {"train": train - held, "validation": held, "test": test}
    assert card.recipe.epochs == epochs


@pytest.mark.parametrize("name", EVERY)
def test_every_source_can_be_read_and_every_class_has_a_name_of_its_own(name: str) -> None:
    card = datasets.load(name)
    assert card.licence
    assert card.citation
    assert "\n\n" not in card.notes
    if name != "imagenet":
        assert len({plain(c) for c in card.classes} - {""}) == len(card.classes)
    for source in card.sources:
        assert isinstance(source, Hub | Folder | Torchvision)
        if isinstance(source, Folder):
            assert source.layout in LAYOUTS | VISION
        if isinstance(source, Torchvision):
            assert source.dataset in KINDS
        if source.labels:
            assert len(source.labels) == len(card.classes)


@pytest.mark.parametrize("name", VISION8)
def test_the_paper_tasks_are_pinned_and_can_come_from_hub_or_folder(name: str) -> None:
    hub, folder = datasets.load(name).sources[:2]
    assert isinstance(hub, Hub)
    assert len(hub.revision) == 40
    assert isinstance(folder, Folder)


def test_names_and_order_at_known_places() -> None:
    cars = datasets.load("cars").classes
    assert cars[0] == "AM General Hummer SUV 2000"
    assert cars[5] == "Acura Integra Type R 2001"
    assert cars[173] == "Ram C/V Cargo Van Minivan 2012"
    assert cars[195] == "smart fortwo Convertible 2012"
    sun = datasets.load("sun397").classes
    assert list(sun) == sorted(sun)
    assert (sun[0], sun[396]) == ("abbey", "youth hostel")
    assert datasets.load("gtsrb").classes[14] == "stop"
    assert datasets.load("dtd").classes[30] == "polka-dotted"
    assert datasets.load("resisc45").templates[17] == "aerial view of the {}."
    assert datasets.load("mnist").classes == tuple("0123456789")
    assert datasets.load("cifar100").classes[1] == "aquarium fish"


def test_svhn_borrows_mnists_names_and_template() -> None:
    svhn, mnist = datasets.load("svhn"), datasets.load("mnist")
    assert svhn.templates == mnist.templates == ('a photo of the number: "{}".',)
    assert svhn.classes == mnist.classes


def test_eurosat_follows_sorted_folders_and_maps_by_name() -> None:
    card, own = datasets.load("eurosat"), datasets.load("eurosat_tta")
    folder = next(s for s in card.sources if isinstance(s, Folder))
    assert list(folder.labels) == sorted(folder.labels)
    meaning = dict(zip(folder.labels, card.classes, strict=True))
    assert meaning["HerbaceousVegetation"] == "brushland or shrubland"
    assert meaning["SeaLake"] == "lake or sea"
    assert own.classes == card.classes
    assert {split: found.rows for split, found in own.splits.items()} == {
        "train": 21_600,
        "validation": 2_700,
        "test": 2_700,
    }
    assert own.fingerprint != card.fingerprint


def test_imagenet_is_matched_by_position_because_two_names_come_twice() -> None:
    card = datasets.load("imagenet")
    assert len(card.classes) == 1_000
    assert len(card.templates) == 80
    assert sorted({c for c in card.classes if card.classes.count(c) > 1}) == ["missile", "sunglasses"]
    assert {s.match for s in card.sources if not isinstance(s, datasets.Procedural)} == {"position"}
    assert {split: found.rows for split, found in card.splits.items()} == {
        "train": 1_276_167,
        "validation": 5_000,
        "test": 50_000,
    }


@pytest.mark.slow
def test_imagenet_names_and_templates_are_open_clips() -> None:
    from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

    card = datasets.load("imagenet")
    assert card.classes == tuple(IMAGENET_CLASSNAMES)
    assert card.templates == tuple(t("{}") for t in OPENAI_IMAGENET_TEMPLATES)


def test_fer2013_numbers_of_torchvision_are_mapped_by_name() -> None:
    from bench.pixels.sources import label_map

    card = datasets.load("fer2013")
    (source,) = (s for s in card.sources if isinstance(s, Torchvision))
    found = label_map(card, source, KINDS["FER2013"].names or (), "torchvision")
    assert [card.classes[i] for i in found] == ["angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral"]
