"""What all sources share: the held-out split, class names, row hashes, the choice of a source, the check."""

from pathlib import Path

import pytest
from torch import Generator
from torch.utils.data import random_split

from bench.cards import datasets
from bench.cards.datasets import Hub
from bench.errors import DataError, UnknownName
from bench.pixels import sources
from tests.bench.copies import card, class_folders, picture, png, shard


def test_mnists_first_training_row_is_the_references() -> None:
    assert sources.training_rows(60_000)[0] == 36044
    assert len(sources.validation_rows(60_000)) == 5_000


@pytest.mark.parametrize(("total", "held"), [(8_144, 814), (3_760, 376), (73_257, 5_000), (19, 1), (9, 0)])
def test_the_held_out_rows_are_those_of_torchs_random_split(total: int, held: int) -> None:
    train, validation = random_split(range(total), (total - held, held), generator=Generator().manual_seed(0))  # type: ignore[arg-type]
    assert sources.training_rows(total) == list(train.indices)
    assert sources.validation_rows(total) == list(validation.indices)


def test_row_hash_by_hand() -> None:
    import hashlib

    assert sources.row_hash(["a", "bc"]) == hashlib.sha256(b"a\nbc\n").hexdigest()
    assert sources.row_hash(["ab", "c"]) != sources.row_hash(["a", "bc"])


NAMES = ("cat", "big dog", "owl")


def source(**fields: object) -> Hub:
    return Hub.model_validate({"kind": "hub", "repo": "a/b", **fields})


@pytest.mark.parametrize(
    ("names", "fields", "expected"),
    [
        ((), {}, [0, 1, 2]),
        (("cat", "big_dog", "Owl"), {}, [0, 1, 2]),
        (("owl", "Big/Dog", "cat"), {}, [2, 1, 0]),
        (("Eule", "Katze", "Hund"), {"labels": ["Katze", "Hund", "Eule"]}, [2, 0, 1]),
        (("2", "0", "1"), {}, [2, 0, 1]),
        (("00002", "00000", "00001"), {}, [2, 0, 1]),
        (("x", "y", "z"), {"match": "position"}, [0, 1, 2]),
    ],
)
def test_labels_follow_names(names: tuple[str, ...], fields: dict[str, object], expected: list[int]) -> None:
    pets = card("pets", NAMES, {"test": 1}, {"kind": "hub", "repo": "a/b"})
    assert sources.label_map(pets, source(**fields), names, "here") == expected


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("cat", "dog", "owl"), "unknown: 'dog'"),
        (("cat", "cat", "owl"), "some twice"),
        (("cat", "owl"), "has 2 classes, the card 3"),
        (("1", "2", "3"), "unknown: '1'"),
    ],
)
def test_labels_are_never_guessed(names: tuple[str, ...], words: str) -> None:
    pets = card("pets", NAMES, {"test": 1}, {"kind": "hub", "repo": "a/b"})
    with pytest.raises(DataError, match=words):
        sources.label_map(pets, source(), names, "here")


def two_sources(root: Path) -> datasets.DatasetCard:
    hub = {"kind": "hub", "repo": "owner/pets"}
    return card("pets", ["a", "b"], {"train": 18, "validation": 2, "test": 4}, hub, {"kind": "folder", "layout": "dtd"})


def fill_folder(root: Path, leak: int = 0) -> None:
    class_folders(root / "dtd/train", ["a", "b"], 10)
    class_folders(root / "dtd/val", ["a", "b"], 2, seed=5000)
    for i in range(leak):
        (root / f"dtd/val/a/a_{i:03d}.png").write_bytes((root / f"dtd/train/a/a_{i:03d}.png").read_bytes())


def test_the_first_source_that_is_there_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pets = two_sources(tmp_path)
    with pytest.raises(DataError, match=r"not on this machine \(hub: .*; folder: no .*\); run `bench data fetch pets`"):
        next(sources.rows(pets, "test", tmp_path))
    fill_folder(tmp_path)
    lacks = sources.available(pets, tmp_path)
    assert lacks["folder"] == ""
    assert lacks["hub"]
    assert len(list(sources.rows(pets, "test", tmp_path))) == 4
    for part, count in (("train", 20), ("test", 4)):
        images = [png(picture(i)) for i in range(count)]
        shard(tmp_path / f"owner/pets/data/{part}-00000-of-00001.parquet", images, [0] * count, ["a", "b"])
    assert [row.label for row in sources.rows(pets, "test", tmp_path)] == [0] * 4
    assert [row.label for row in sources.rows(pets, "test", tmp_path, "folder")] == [0, 0, 1, 1]
    monkeypatch.setenv("BENCH_SOURCES", "torchvision, folder")  # the order that the user sets
    assert [row.label for row in sources.rows(pets, "test", tmp_path)] == [0, 0, 1, 1]
    assert list(sources.available(pets, tmp_path)) == ["folder", "hub"]
    monkeypatch.setenv("BENCH_SOURCES", "folders")
    with pytest.raises(UnknownName, match="did you mean 'folder'"):
        next(sources.rows(pets, "test", tmp_path))
    monkeypatch.delenv("BENCH_SOURCES")
    with pytest.raises(DataError, match="has no source 'torchvision'"):
        next(sources.rows(pets, "test", tmp_path, "torchvision"))
    with pytest.raises(DataError, match="no split"):
        next(sources.rows(card("p", ["a", "b"], {"test": 4}, {"kind": "folder", "layout": "dtd"}), "train", tmp_path))


def test_a_split_is_read_although_other_parts_are_not_here(tmp_path: Path) -> None:
    class_folders(tmp_path / "dtd/val", ["a", "b"], 2)
    pets = two_sources(tmp_path)
    assert [row.label for row in sources.rows(pets, "test", tmp_path)] == [0, 0, 1, 1]
    assert sources.available(pets, tmp_path, "folder", "test") == {"folder": ""}
    with pytest.raises(DataError, match="dtd/train"):
        next(sources.rows(pets, "validation", tmp_path))
    with pytest.raises(DataError, match="dtd/train"):
        sources.check(pets, tmp_path)


def test_check_counts_hashes_and_images_that_two_splits_share(tmp_path: Path) -> None:
    fill_folder(tmp_path)
    report = sources.check(two_sources(tmp_path), tmp_path)
    assert report.rows == {"train": 18, "validation": 2, "test": 4}
    assert report.verified == ()
    assert report.shared == {"train+validation": 0, "train+test": 0, "validation+test": 0}
    ids = [row.id for row in sources.rows(two_sources(tmp_path), "test", tmp_path)]
    assert report.sha256["test"] == sources.row_hash(ids)
    fill_folder(tmp_path, leak=2)
    leaked = sources.check(two_sources(tmp_path), tmp_path).shared
    assert leaked["train+test"] + leaked["validation+test"] == 2


def test_check_compares_with_the_recorded_hash_and_finds_a_swapped_image(tmp_path: Path) -> None:
    fill_folder(tmp_path)
    digest = sources.check(two_sources(tmp_path), tmp_path).sha256["test"]
    recorded = {"kind": "folder", "layout": "dtd", "sha256": {"test": digest}}
    pets = card("pets", ["a", "b"], {"train": 18, "validation": 2, "test": 4}, recorded)
    assert sources.check(pets, tmp_path).verified == ("test",)
    picture(77).save(tmp_path / "dtd/val/b/b_001.png")
    with pytest.raises(DataError, match="the test rows of source folder are not those that were recorded"):
        sources.check(pets, tmp_path)


def test_check_names_an_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    fill_folder(tmp_path)
    path = tmp_path / "dtd/val/b/b_001.png"
    path.write_bytes(path.read_bytes()[:100])
    sources.check(two_sources(tmp_path), tmp_path)
    with pytest.raises(DataError, match=r"dtd/val/b/b_001\.png.*cannot be decoded"):
        sources.check(two_sources(tmp_path), tmp_path, decode=True)


def test_recording_a_hash_does_not_make_the_card_another_data_set() -> None:
    plain = card("pets", NAMES, {"test": 4}, {"kind": "folder", "layout": "dtd"})
    hashed = card("pets", NAMES, {"test": 4}, {"kind": "folder", "layout": "dtd", "sha256": {"test": "0" * 64}})
    assert plain.fingerprint == hashed.fingerprint
    assert plain.fingerprint != card("pets", NAMES, {"test": 5}, {"kind": "folder", "layout": "dtd"}).fingerprint


def test_data_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert sources.data_folder() == tmp_path
    monkeypatch.delenv("BENCH_DATA")
    assert sources.data_folder() == Path.home() / "data"
