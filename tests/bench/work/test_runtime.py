"""Run-time choices: how they are read, what they set, and that none of them changes a result."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.cards import datasets
from bench.errors import BenchError, StoreError
from bench.pixels.images import Images
from bench.store.store import Store
from bench.work import backbone, evaluate
from bench.work.evaluate import Evaluator, OnDevice, free_memory
from bench.work.runtime import CHOOSABLE, How, parse, settle


def test_choices_from_the_command_line() -> None:
    assert parse(["checkpointing=true", "batch_size=256", "resident=0.5", "deterministic=False"]) == {
        "checkpointing": True,
        "batch_size": 256,
        "resident": 0.5,
        "deterministic": False,
    }
    assert parse(["save_minutes=30"]) == {"save_minutes": 30.0}
    assert parse(["compile=true", "tf32=true"]) == {"compile": True, "tf32": True}
    assert parse(None) == {}
    assert set(CHOOSABLE) <= set(How().__dict__)


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
    base = backbone.load("mini", [datasets.load("digits")])
    head = base.heads["digits"]
    rng = np.random.default_rng(0)
    pictures = Images(rng.integers(0, 256, (37, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 37))
    expected = Evaluator(base, 10).correct(base.pretrained, (pictures, head))
    size = pictures.pixels.nbytes
    for free, stays in ((4 * size, True), (4 * size - 4, False)):
        monkeypatch.setattr(evaluate, "free_memory", lambda device, free=free: free)
        monkeypatch.setattr(evaluate, "PIECE", 16)
        evaluator = Evaluator(base, 10, resident=0.25)
        torch.testing.assert_close(evaluator.correct(base.pretrained, (pictures, head)), expected)
        near = evaluator.near(pictures)
        assert isinstance(near, OnDevice) == stays
        assert evaluator.near(pictures) is near
        if stays:
            assert np.array_equal(near.pixels.numpy(), pictures.pixels)
            assert not near.pixels.is_inference()


def test_the_oldest_images_make_room_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of 1,000 free bytes, and of what is taken: two pictures of 96 bytes fit, a third takes a place."""
    base = backbone.load("mini", [])
    a, b, c, large = (
        Images(np.full((n, 3, 4, 4), n, dtype=np.uint8), np.zeros(n, dtype=np.int64)) for n in (2, 2, 2, 6)
    )
    evaluator = Evaluator(base, 10, resident=0.25)
    taken = {"bytes": 0}
    monkeypatch.setattr(evaluate, "free_memory", lambda device: 1000 - taken["bytes"])

    def stays(images: Images) -> bool:
        found = evaluator.near(images)
        there = [held for _, held in evaluator._held.values() if isinstance(held, OnDevice)]
        taken["bytes"] = sum(held.pixels.nbytes for held in there)
        assert taken["bytes"] <= 250
        return isinstance(found, OnDevice)

    assert stays(a)
    assert stays(b)
    first = evaluator.near(a)  # so b is now the one that was not asked for the longest
    assert stays(c)
    assert evaluator.near(a) is first
    assert id(b) not in evaluator._held
    assert not stays(large)
    assert evaluator.near(a) is first


def test_free_memory_is_what_the_share_of_this_process_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100: 30 free, 20 reserved of which 5 are in use. Alone 45 are left; with a share of a quarter 20."""
    share = {"is": 1.0}
    for name, value in {"memory_allocated": 5, "memory_reserved": 20, "mem_get_info": (30, 100)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: share["is"])
    cuda = torch.device("cuda")
    assert free_memory(cuda) == 45
    share["is"] = 0.25
    assert free_memory(cuda) == 20
    share["is"] = 0.01
    assert free_memory(cuda) == 0
    assert free_memory(torch.device("cpu")) == 0


@pytest.fixture
def settings() -> Iterator[None]:
    """The settings of torch that a run changes, put back."""
    kept = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.set_float32_matmul_precision(kept[0])
    torch.use_deterministic_algorithms(kept[1], warn_only=warn)
    torch.set_num_threads(kept[2])


def test_deterministic_is_strict_on_a_gpu_where_a_warning_would_change_bits(
    settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    settle(How(deterministic=False, device="cuda", tf32=True, threads=2))
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_num_threads() == 2
    settle(How(device="cuda"))
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.get_float32_matmul_precision() == "highest"
    settle(How(device="cpu"))
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_a_store_never_mixes_exact_and_rough_products(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.agree("float32-products", "exact", "another --runtime tf32")
    with pytest.raises(StoreError, match=r"\(tf32\) is not what .* \(exact\): another --runtime tf32; use the same"):
        store.agree("float32-products", "tf32", "another --runtime tf32")
