"""Random crops against Pillow, and what is drawn."""

import numpy as np
import torch
from PIL import Image

from bench.pixels.augment import boxes, crop
from methods.vectors import generator


def test_a_crop_is_pillows_to_one_grey_level() -> None:
    rng = np.random.default_rng(0)
    for size in (32, 56):
        pictures = rng.integers(0, 256, (6, 3, size, size), dtype=np.uint8)
        pictures[3:] = np.sort(pictures[3:], axis=-1)  # smooth ones too
        where = boxes(6, size, generator(0, "crop"))
        found = crop(torch.from_numpy(pictures), where).numpy()
        for picture, (top, left, height, width), made in zip(pictures, where.tolist(), found, strict=True):
            image = Image.fromarray(picture.transpose(1, 2, 0)).crop((left, top, left + width, top + height))
            expected = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
            off = np.abs(made.astype(int) - expected.astype(int))
            assert off.max() <= 1
            assert off.mean() < 0.01


def test_the_whole_image_is_left_alone() -> None:
    pictures = torch.randint(0, 256, (2, 3, 16, 16), generator=generator(1, "crop"), dtype=torch.uint8)
    whole = torch.tensor([[0, 0, 16, 16]]).expand(2, 4)
    assert torch.equal(crop(pictures, whole), pictures)


def test_crops_lie_inside_and_have_the_declared_area_and_ratio() -> None:
    size = 224
    found = boxes(4000, size, generator(2, "crop"))
    top, left, height, width = found.unbind(dim=1)
    assert bool(((top >= 0) & (left >= 0) & (top + height <= size) & (left + width <= size)).all())
    share = (height * width).double() / size**2
    assert 0.89 < float(share.min()) < 0.905
    assert float(share.max()) <= 1.0
    ratio = width.double() / height
    assert 0.88 < float(ratio.min()) < 0.95
    assert 1.05 < float(ratio.max()) < 1.13
    # Where there is room, every place is as likely: its mean is the middle.
    room = (size - height) > 0
    assert abs(float((top[room] / (size - height[room])).mean()) - 0.5) < 0.03


def test_crops_depend_on_seed_and_step_alone() -> None:
    first, again, other = (boxes(8, 32, generator(3, "finetune crop", step)) for step in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_sees_the_crops() -> None:
    """The loss of the first step is that of the pretrained tower on the crops of the seed."""
    from bench.cards.recipes import Recipe
    from bench.work import backbone, finetune
    from bench.work.pictures import Pictures, batches
    from bench.work.training import Training

    base = backbone.load("mini", ())
    draw = generator(4, "images")
    pixels = torch.randint(0, 256, (6, 3, 32, 32), generator=draw, dtype=torch.uint8)
    labels = torch.arange(6) % 3
    head = 10 * torch.nn.functional.normalize(torch.randn(3, 128, generator=draw), dim=1)
    recipe = Recipe(steps=1, batch_size=6, lr=1e-6, augment="crop")
    pictures = Pictures(pixels, labels, base.card.mean, base.card.std)
    training = Training.of(recipe, "nonlinear")
    found = finetune.train(base.tower, base.pretrained, head, pictures, training, seed=7).metrics["loss"]
    rows = batches(6, 1, 6, 7)[0]
    seen = crop(pixels[rows], boxes(6, 32, generator(7, "finetune crop", 0)))
    with torch.no_grad():
        features = base.tower(base.pretrained, base.normalise(seen))
        logits = torch.nn.functional.normalize(features, dim=1) @ head.T
    assert abs(found - float(torch.nn.functional.cross_entropy(logits, labels[rows]))) < 1e-5
