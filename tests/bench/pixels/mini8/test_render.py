"""The drawn tasks: what the cards promise is what is drawn, everywhere and every time."""

import numpy as np
import pytest

from bench.cards import datasets
from bench.errors import BenchError
from bench.pixels.images import Images, digest
from bench.pixels.mini8 import CLASSES, SPLITS, digits, draw_rows, render

DRAWN = sorted(set(CLASSES) - {"digits"})


@pytest.mark.parametrize("task", CLASSES)
def test_cards_describe_the_pixels(task: str) -> None:
    card = datasets.load(task)
    assert len(card.classes) == CLASSES[task] == len(set(card.classes))
    for split, described in card.splits.items():
        images, labels = render(task, split, described.rows)
        assert images.dtype == np.uint8
        assert images.shape == (described.rows, 3, 32, 32)
        assert labels.dtype == np.int64
        assert digest(Images(images, labels)) == described.sha256
        counts = np.bincount(labels, minlength=CLASSES[task])
        assert counts.max() - counts.min() <= (1 if task != "digits" else 5)


def test_sizes_allow_the_intervals_the_suite_promises() -> None:
    for task in DRAWN:
        assert datasets.load(task).splits["test"].rows >= 1000
    assert sum(digits.SHARES.values()) == 1797
    assert datasets.load("shapes").splits["validation"].rows >= 300


@pytest.mark.parametrize("task", CLASSES)
def test_no_test_image_is_trained_on(task: str) -> None:
    rows = {s: min(300, datasets.load("digits").splits[s].rows) for s in SPLITS}
    seen = {split: {image.tobytes() for image in render(task, split, rows[split])[0]} for split in SPLITS}
    assert len(seen["test"]) == rows["test"]
    assert not seen["test"] & (seen["train"] | seen["validation"])
    assert not seen["validation"] & seen["train"]


def test_digits_use_every_real_image_once() -> None:
    parts = [digits.real(split) for split in SPLITS]
    assert [len(labels) for _, labels in parts] == [1000, 200, 597]
    # The source has 178, 182, 177, 183, 181, 182, 181, 179, 174 and 180 images of zero to nine.
    assert np.bincount(np.concatenate([labels for _, labels in parts])).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip


@pytest.mark.parametrize("task", CLASSES)
def test_a_prefix_is_the_start_of_the_whole(task: str) -> None:
    few, many = render(task, "train", 20), render(task, "train", 45)
    np.testing.assert_array_equal(few[0], many[0][:20])
    np.testing.assert_array_equal(few[1], many[1][:20])


@pytest.mark.parametrize("task", DRAWN)
def test_pre_training_pictures_are_others(task: str) -> None:
    labels = np.arange(12) % CLASSES[task]
    suite = render(task, "train", 12)[0]
    for style in ("near", "broad"):
        others = draw_rows(task, f"pretrain/0/{task}/{style}", labels, style)
        assert not (suite == others).all(axis=(1, 2, 3)).any()


def test_pictures_use_the_range_and_differ_between_classes() -> None:
    for task in DRAWN:
        images, labels = render(task, "train", 6 * CLASSES[task])
        assert images.std() > 30  # of 255: not grey on grey
        means = np.stack([images[labels == c].mean(axis=0) for c in range(CLASSES[task])])
        apart = np.abs(means[:, None] - means[None]).mean(axis=(2, 3, 4))
        assert apart[~np.eye(len(means), dtype=bool)].min() > 2.0


def test_unknown_names_and_too_many_digits_are_refused() -> None:
    with pytest.raises(BenchError, match="no 'letter'"):
        render("letter", "train", 3)
    with pytest.raises(BenchError, match="'dev'"):
        render("letters", "dev", 3)
    with pytest.raises(BenchError, match="597 images, 598 were asked for"):
        render("digits", "test", 598)
