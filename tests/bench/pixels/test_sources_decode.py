"""The decode-once cache: open_clip's pixels, resumed, verified, whole or not at all."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cards.datasets import DatasetCard
from bench.errors import DataError
from bench.pixels.sources import decode
from bench.pixels.sources.reading import rows
from tests.bench.copies import card, class_folders, picture, png

SIZES = [(24, 20), (20, 24), (17, 17), (33, 50), (8, 8), (31, 8), (16, 40)]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_pixels_equal_open_clips_evaluation_transform(shape: tuple[int, int], mode: str) -> None:
    from open_clip.transform import image_transform

    size = 16
    image = picture(3, *shape).convert(mode)
    transform = image_transform(size, is_train=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    expected = transform(image.convert("RGB")).numpy() * 255
    found = decode.pixels(decode.rgb(png(image), "x"), size)
    assert found.shape == (3, size, size)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    if mode in ("RGB", "L"):  # the modes of all cards' images: here the transform itself converts last
        np.testing.assert_allclose(found, transform(image).numpy() * 255, atol=1e-3)


def fill(root: Path, each: int = 70) -> DatasetCard:
    class_folders(root / "dtd/val", ["a", "b"], each)
    return card("tiny", ["a", "b"], {"test": 2 * each}, {"kind": "folder", "layout": "dtd"})


def test_builds_once_and_holds_pixels_labels_and_row_ids(tmp_path: Path) -> None:
    task = fill(tmp_path / "data")
    seen: list[tuple[int, int]] = []
    folder = decode.build(
        task, "test", 8, tmp_path / "cache", root=tmp_path / "data", progress=lambda *at: seen.append(at)
    )
    found = list(rows(task, "test", tmp_path / "data"))
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    assert pixels.shape == (140, 3, 8, 8)
    assert pixels.dtype == np.uint8
    for i in (0, 69, 70, 139):
        np.testing.assert_array_equal(pixels[i], decode.pixels(decode.rgb(found[i].image, "x"), 8))
    assert np.load(folder / "labels.npy").tolist() == [0] * 70 + [1] * 70
    assert (folder / "rows.txt").read_text().splitlines() == [row.id for row in found]
    assert seen == [(64, 140), (128, 140), (140, 140)]
    assert sorted(p.name for p in folder.iterdir()) == sorted(decode.FILES)
    meta = decode.verify(task, "test", 8, folder)
    assert meta["source"]["layout"] == "dtd"
    before = os.stat(folder / "pixels.npy").st_mtime_ns
    assert decode.build(task, "test", 8, tmp_path / "cache", root=tmp_path / "nowhere") == folder
    assert os.stat(folder / "pixels.npy").st_mtime_ns == before
    assert decode.folder_name(task, "test", 9) != folder.name


def test_worker_processes_give_the_same_bytes(tmp_path: Path) -> None:
    task = fill(tmp_path / "data")
    one = decode.build(task, "test", 8, tmp_path / "one", root=tmp_path / "data")
    two = decode.build(task, "test", 8, tmp_path / "two", root=tmp_path / "data", workers=2)
    for name in decode.FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def interrupt(task: DatasetCard, tmp_path: Path, after: int = 64) -> Path:
    def stop(done: int, total: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode.build(task, "test", 8, tmp_path / "cache", root=tmp_path / "data", progress=stop)
    (part,) = (tmp_path / "cache").glob(".*.part")
    assert not (tmp_path / "cache" / decode.folder_name(task, "test", 8)).exists()
    return part


@pytest.mark.parametrize("torn", [0, 5, 500])
def test_an_interrupted_build_resumes_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: int
) -> None:
    task = fill(tmp_path / "data")
    whole = decode.build(task, "test", 8, tmp_path / "whole", root=tmp_path / "data")
    part = interrupt(task, tmp_path)
    if torn:  # as after a power cut: some bytes of the last write are missing
        data = (part / "pixels.npy").read_bytes()
        (part / "pixels.npy").write_bytes(data[:-torn])
        names = (part / "rows.txt").read_text()
        (part / "rows.txt").write_text(names + "half a na")
    decoded: list[str] = []
    original = decode.rgb
    monkeypatch.setattr(decode, "rgb", lambda image, name: decoded.append(name) or original(image, name))
    again = decode.build(task, "test", 8, tmp_path / "cache", root=tmp_path / "data")
    for name in decode.FILES:
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert len(decoded) == 140 - 64 + -(-torn // 192)


def test_a_source_that_changed_during_an_interruption_is_refused(tmp_path: Path) -> None:
    task = fill(tmp_path / "data")
    interrupt(task, tmp_path)
    picture(12345).save(tmp_path / "data/dtd/val/a/a_003.png")
    with pytest.raises(DataError, match="the source changed during an interrupted build"):
        decode.build(task, "test", 8, tmp_path / "cache", root=tmp_path / "data")


def test_an_unreadable_image_is_named_and_nothing_is_published(tmp_path: Path) -> None:
    task = fill(tmp_path / "data")
    (tmp_path / "data/dtd/val/b/b_002.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(DataError, match=r"dtd/val/b/b_002\.png.*cannot be decoded"):
        decode.build(task, "test", 8, tmp_path / "cache", root=tmp_path / "data")
    assert not (tmp_path / "cache" / decode.folder_name(task, "test", 8)).exists()


def test_a_full_disk_is_one_line_and_keeps_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = fill(tmp_path / "data")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(decode.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"cannot write .*0 MiB are needed.*it resumes"):
        decode.build(task, "test", 8, tmp_path / "cache", root=tmp_path / "data")
    monkeypatch.undo()
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(DataError, match="cannot write"):
        decode.build(task, "test", 8, file, root=tmp_path / "data")


def test_changed_bytes_another_card_and_another_preprocessing_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = fill(tmp_path / "data")
    folder = decode.build(task, "test", 8, tmp_path / "cache", root=tmp_path / "data")
    other = task.model_copy(update={"templates": ("the {}.",)})
    with pytest.raises(DataError, match="made with another card"):
        decode.verify(other, "test", 8, folder)
    with monkeypatch.context() as patch:
        patch.setattr(decode, "PREPROCESSING", "2: otherwise")
        with pytest.raises(DataError, match="made with another preprocessing"):
            decode.verify(task, "test", 8, folder)
        assert decode.folder_name(task, "test", 8) != folder.name
    data = bytearray((folder / "pixels.npy").read_bytes())
    data[-1] ^= 1
    (folder / "pixels.npy").write_bytes(data)
    with pytest.raises(DataError, match=r"damaged \(pixels\.npy is not as it was written\)"):
        decode.verify(task, "test", 8, folder)
    (folder / "meta.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match="run `bench data fetch tiny --force --decode`"):
        decode.verify(task, "test", 8, folder)


def test_a_recorded_hash_that_does_not_match_stops_the_build(tmp_path: Path) -> None:
    class_folders(tmp_path / "data/dtd/val", ["a", "b"], 1)
    source = {"kind": "folder", "layout": "dtd", "sha256": {"test": "0" * 64}}
    with pytest.raises(DataError, match="not those that were recorded"):
        decode.build(card("t", ["a", "b"], {"test": 2}, source), "test", 8, tmp_path / "c", root=tmp_path / "data")


def test_arrays_from_torchvision_are_decoded_too() -> None:
    grey = Image.fromarray(np.full((28, 28), 7, dtype=np.uint8))
    np.testing.assert_array_equal(decode.pixels(decode.rgb(grey, "x"), 28), np.full((3, 28, 28), 7))
