from pathlib import Path

import numpy as np
import pytest
import torch

from bench.cards import datasets
from bench.cards.datasets import DatasetCard
from bench.errors import DataError
from bench.pixels import images
from bench.pixels.images import Images


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    return tmp_path


CARD = datasets.load("digits")


def test_split_is_what_the_card_says() -> None:
    found = images.load(CARD, "validation", 32)
    rows = CARD.splits["validation"].rows
    assert found.pixels.shape == (rows, 3, 32, 32)
    assert found.pixels.dtype == np.uint8
    assert images.digest(found) == CARD.splits["validation"].sha256


def test_second_load_maps_the_same_file(cache: Path) -> None:
    images.load(CARD, "validation", 32)
    before = {p: p.stat().st_mtime_ns for p in cache.rglob("*.npy")}
    images.load(CARD, "validation", 32)
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.npy")} == before
    assert len(before) == 2
    assert not list(cache.rglob(".*"))


def test_a_flipped_byte_is_found_and_named(cache: Path) -> None:
    images.load(CARD, "validation", 32)
    path = images.folder_of(CARD, "validation", 32) / "pixels.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        DataError, match=r"not the pixels that digits.toml describes; run `bench data fetch digits --force`"
    ):
        images.load(CARD, "validation", 32)
    images.forget(CARD, "validation", 32)
    assert images.digest(images.load(CARD, "validation", 32)) == CARD.splits["validation"].sha256


@pytest.mark.parametrize("size", [0, 50, 1000])
def test_a_truncated_file_is_one_line(cache: Path, size: int) -> None:
    images.load(CARD, "validation", 32)
    path = images.folder_of(CARD, "validation", 32) / "pixels.npy"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match="damaged; run `bench data fetch digits --force`") as caught:
        images.load(CARD, "validation", 32)
    assert "\n" not in str(caught.value)


def test_labels_outside_the_classes_are_refused(cache: Path) -> None:
    rows = CARD.splits["validation"].rows
    wrong = Images(np.zeros((rows, 3, 32, 32), np.uint8), np.full(rows, 10))
    images._publish(images.folder_of(CARD, "validation", 32), wrong)
    with pytest.raises(DataError, match=r"a label is outside 0\.\.9"):
        images.load(CARD, "validation", 32)


def test_unknown_split() -> None:
    card = DatasetCard.model_validate(CARD.model_dump() | {"splits": {"test": CARD.splits["test"]}})
    with pytest.raises(DataError, match="no split 'train'; it has test"):
        images.load(card, "train", 32)


def test_normalise_by_hand() -> None:
    pixels = torch.tensor([[[[0]], [[255]], [[51]]]], dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.5, 0.0]).view(1, 3, 1, 1), torch.tensor([0.25, 0.25, 0.1]).view(1, 3, 1, 1)
    torch.testing.assert_close(images.normalise(pixels, mean, std).flatten(), torch.tensor([-2.0, 2.0, 2.0]))


def test_a_disk_that_fills_up_while_an_array_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy's own words for it have no error number: '307200 requested and 16 written'."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))

    def short(file: Path, array: object) -> None:
        raise OSError("307200 requested and 16 written")

    monkeypatch.setattr(images.np, "save", short)
    with pytest.raises(DataError, match=r"cannot write .*: the disk is full; free space"):
        images.load(datasets.load("digits"), "validation", 32)
    assert not list((tmp_path / "images").iterdir())
