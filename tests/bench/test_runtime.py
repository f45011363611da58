"""Run-time choices: how they are read, and that none of them changes a result."""

import numpy as np
import pytest
import torch

from bench import backbone, cards, evaluate
from bench.errors import BenchError
from bench.evaluate import Evaluator, OnDevice
from bench.images import Images
from bench.runtime import CHOOSABLE, Runtime, parse


def test_choices_from_the_command_line() -> None:
    assert parse(["checkpointing=true", "batch_size=256", "resident=0.5", "deterministic=False"]) == {
        "checkpointing": True,
        "batch_size": 256,
        "resident": 0.5,
        "deterministic": False,
    }
    assert parse(["save_minutes=30"]) == {"save_minutes": 30.0}
    assert parse(None) == {}
    assert set(CHOOSABLE) <= set(Runtime("store").__dict__)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("checkpoint=true", "did you mean 'checkpointing'"),
        ("checkpointing=yes", "give true or false"),
        ("batch_size=0", "a whole number, at least 1"),
        ("batch_size=many", "a whole number, at least 1"),
        ("resident=2", "a number from 0 to 1"),
        ("save_minutes=-1", "a number from 0 to 1440"),
        ("store=elsewhere", "no run-time option named 'store'"),
    ],
)
def test_wrong_choices_are_one_line(text: str, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        parse([text])


def test_images_that_stay_on_the_device_give_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    base = backbone.load("mini", [cards.load("digits")])
    head = base.heads["digits"]
    rng = np.random.default_rng(0)
    pictures = Images(rng.integers(0, 256, (37, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 37))
    expected = Evaluator(base, 10).correct(base.pretrained, pictures, head)
    size = pictures.pixels.nbytes
    for free, stays in ((4 * size, True), (4 * size - 4, False)):
        monkeypatch.setattr(evaluate, "free_memory", lambda device, free=free: free)
        monkeypatch.setattr(evaluate, "PIECE", 16)
        evaluator = Evaluator(base, 10, resident=0.25)
        torch.testing.assert_close(evaluator.correct(base.pretrained, pictures, head), expected)
        near = evaluator.near(pictures)
        assert isinstance(near, OnDevice) == stays
        assert evaluator.near(pictures) is near
        if stays:
            assert np.array_equal(near.pixels.numpy(), pictures.pixels)
            assert not near.pixels.is_inference()
