"""What an expert is trained on: labels that fit the head, crops that are taken, an order that its seed decides."""

import pytest
import torch

from bench.errors import BenchError
from bench.pixels.augment import boxes, crop
from bench.pixels.images import normalise
from bench.work.pictures import Pictures, batches
from methods.vectors import generator

PIXELS = torch.randint(0, 256, (3, 3, 8, 8), generator=generator(0, "pictures"), dtype=torch.uint8)
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


def test_the_largest_label_is_the_last_class() -> None:
    pictures = Pictures(PIXELS, torch.tensor([0, 2, 1]), MEAN, STD)
    assert pictures.targets(3).tolist() == [0, 2, 1]
    with pytest.raises(BenchError, match="a label is 2, the head has 2 classes"):
        pictures.targets(2)


def test_a_batch_is_normalised_and_of_each_image_its_window_alone() -> None:
    pictures = Pictures(PIXELS, torch.zeros(3), MEAN, STD).on("cpu")
    mean, std = (torch.tensor(x).reshape(1, 3, 1, 1) for x in (MEAN, STD))
    rows, windows = torch.tensor([2, 0]), boxes(2, 8, generator(1, "crop"))
    assert torch.equal(pictures.batch(rows), normalise(PIXELS[rows], mean, std))
    cropped = crop(PIXELS[rows], windows)
    assert not torch.equal(cropped, PIXELS[rows])
    assert torch.equal(pictures.batch(rows, windows), normalise(cropped, mean, std))


def test_every_image_is_seen_once_before_any_is_seen_twice_in_an_order_of_the_seed() -> None:
    order = batches(5, 4, 3, 0)
    assert order.shape == (4, 3)
    assert sorted(order.flatten()[:5].tolist()) == sorted(order.flatten()[5:10].tolist()) == list(range(5))
    assert torch.equal(order, batches(5, 4, 3, 0))
    assert not torch.equal(order, batches(5, 4, 3, 1))
