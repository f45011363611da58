"""Hub shards: written as `datasets` writes them, read with pyarrow alone, from a clone and from the hub's own cache."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.cards.datasets import DatasetCard
from bench.errors import DataError
from bench.pixels import sources
from bench.pixels.sources import hub
from tests.bench.copies import card, picture, png, shard

NAMES = ["cat", "dog", "owl"]
PIN = "0123456789abcdef0123456789abcdef01234567"


def make(root: Path, *, train: int = 30, test: int = 5, names: list[str] | None = None) -> DatasetCard:
    """A repository with two training shards and one test shard, row i being picture i with label i % 3."""
    names = NAMES if names is None else names
    folder = root / "owner/pets/data"
    cut = train // 2
    shard(
        folder / "train-00000-of-00002.parquet",
        [png(picture(i)) for i in range(cut)],
        [i % 3 for i in range(cut)],
        names,
    )
    rest = range(cut, train)
    shard(folder / "train-00001-of-00002.parquet", [png(picture(i)) for i in rest], [i % 3 for i in rest], names)
    tests = range(100, 100 + test)
    shard(folder / "test-00000-of-00001.parquet", [png(picture(i)) for i in tests], [i % 3 for i in tests], names)
    held = train // 10
    return card(
        "pets", NAMES, {"train": train - held, "validation": held, "test": test}, {"kind": "hub", "repo": "owner/pets"}
    )


def test_reads_every_row_in_order_with_bytes_and_labels(tmp_path: Path) -> None:
    pets = make(tmp_path)
    found = list(sources.rows(pets, "test", tmp_path))
    assert [row.label for row in found] == [i % 3 for i in range(100, 105)]
    assert [row.image for row in found] == [png(picture(i)) for i in range(100, 105)]
    assert found[2].id.startswith("test/2:0:")


def test_train_and_validation_share_the_training_shards_by_the_reference_rule(tmp_path: Path) -> None:
    pets = make(tmp_path)
    train = [row.id for row in sources.rows(pets, "train", tmp_path)]
    held = [row.id for row in sources.rows(pets, "validation", tmp_path)]
    assert [int(i.split(":")[0].split("/")[1]) for i in held] == sorted(sources.validation_rows(30))
    assert len(train) == 27
    assert len(held) == 3
    assert len({*train, *held}) == 30


def test_labels_are_mapped_by_name_not_by_number(tmp_path: Path) -> None:
    pets = make(tmp_path, names=["Owl", "CAT", "dog"])  # source 0 = owl, 1 = cat, 2 = dog
    found = [row.label for row in sources.rows(pets, "test", tmp_path)]
    by_name = {0: 2, 1: 0, 2: 1}
    assert found == [by_name[i % 3] for i in range(100, 105)]


def test_string_labels_and_booleans_are_understood(tmp_path: Path) -> None:
    folder = tmp_path / "owner/pets/data"
    images = [png(picture(i)) for i in range(3)]
    shard(folder / "test-00000-of-00001.parquet", images, ["owl", "cat", "cat"], NAMES)
    pets = card("pets", NAMES, {"test": 3}, {"kind": "hub", "repo": "owner/pets"})
    assert [row.label for row in sources.rows(pets, "test", tmp_path)] == [2, 0, 0]
    shard(folder / "test-00000-of-00001.parquet", images, [True, False, True])
    two = card("two", ["no", "yes"], {"test": 3}, {"kind": "hub", "repo": "owner/pets"})
    assert [row.label for row in sources.rows(two, "test", tmp_path)] == [1, 0, 1]


def test_plain_binary_images_other_columns_and_file_patterns(tmp_path: Path) -> None:
    path = tmp_path / "owner/pets/plain/validation-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"img": pa.array([png(picture(7))], pa.binary()), "fine": [1]}), path)
    source = {
        "kind": "hub",
        "repo": "owner/pets",
        "config": "plain",
        "test": "validation",
        "image_column": "img",
        "label_column": "fine",
    }
    pets = card("pets", NAMES, {"test": 1}, source)
    assert [(row.image, row.label) for row in sources.rows(pets, "test", tmp_path)] == [(png(picture(7)), 1)]


def test_reads_hugging_faces_own_cache_at_the_pinned_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    pets = make(tmp_path / "made")
    pinned = pets.model_copy(update={"sources": (pets.sources[0].model_copy(update={"revision": PIN}),)})
    snapshot = tmp_path / "hub/datasets--owner--pets/snapshots" / PIN
    snapshot.mkdir(parents=True)
    (tmp_path / "made/owner/pets/data").rename(snapshot / "data")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert sources.available(pinned, tmp_path / "none") == {"hub": ""}
    assert len(list(sources.rows(pinned, "train", tmp_path / "none"))) == 27
    assert "is neither in" in sources.available(pets, tmp_path / "none")["hub"]


def refused(root: Path, pets: DatasetCard, *words: str, split: str = "test") -> None:
    with pytest.raises(DataError) as caught:
        list(sources.rows(pets, split, root))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    pets = make(tmp_path)
    (tmp_path / "owner/pets/data/train-00001-of-00002.parquet").unlink()
    refused(tmp_path, pets, "only 1 of 2 shards of 'train'", "bench data fetch pets", split="train")


def test_a_wrong_count_is_refused(tmp_path: Path) -> None:
    make(tmp_path, test=6)
    pets = card("pets", NAMES, {"test": 5}, {"kind": "hub", "repo": "owner/pets"})
    refused(tmp_path, pets, "has 6 rows, the card says 5")


def test_another_class_list_is_refused(tmp_path: Path) -> None:
    pets = make(tmp_path, names=["cat", "dog", "cow"])
    refused(tmp_path, pets, "other classes", "'cow'", "pets.toml")
    refused(tmp_path, make(tmp_path, names=[*NAMES, "cow"]), "has 4 classes, the card 3")


def test_a_label_out_of_range_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "owner/pets/data/test-00000-of-00001.parquet", [png(picture(0))], [3])
    refused(
        tmp_path, card("pets", NAMES, {"test": 1}, {"kind": "hub", "repo": "owner/pets"}), "label 3 is outside 0..2"
    )


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    pets = make(tmp_path)
    path = tmp_path / "owner/pets/data/test-00000-of-00001.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(tmp_path, pets, path.name, "not a readable parquet file")
    half = len(data) // 4
    path.write_bytes(data[:4] + bytes(b ^ 0x55 for b in data[4:half]) + data[half:])
    with pytest.raises(DataError):
        list(sources.rows(pets, "test", tmp_path))


def test_missing_columns_bytes_and_metadata_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "owner/pets/data/test-00000-of-00001.parquet"
    pets = card("pets", NAMES, {"test": 1}, {"kind": "hub", "repo": "owner/pets"})
    shard(path, [png(picture(0))], [0], columns=("picture", "label"))
    refused(tmp_path, pets, "no column 'image'", "picture, label")
    shard(path, [b""], [0])
    refused(tmp_path, pets, "row test/0 holds no image bytes")
    table = pq.read_table(path).replace_schema_metadata({"huggingface": b"{not json"})
    pq.write_table(table, path)
    refused(tmp_path, pets, "schema metadata")


def test_fetch_asks_for_a_pin_and_refuses_branches(tmp_path: Path) -> None:
    pets = card("pets", NAMES, {"test": 1}, {"kind": "hub", "repo": "owner/pets"})
    with pytest.raises(DataError, match=r"not pinned.*--revision COMMIT"):
        sources.fetch(pets, tmp_path)
    with pytest.raises(DataError, match="'main' of owner/pets is not a 40-digit commit"):
        sources.fetch(pets, tmp_path, revision="main")
    assert sources.unpinned(pets, tmp_path) == ["owner/pets"]


def test_fetch_records_a_revision_given_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(hub, "_download", lambda source, parts, commit: asked.append((parts, commit)))
    pets = card("pets", NAMES, {"train": 9, "validation": 1, "test": 1}, {"kind": "hub", "repo": "owner/pets"})
    assert sources.fetch(pets, tmp_path, revision=PIN) == "hub"
    assert asked == [(["train", "test"], PIN)]
    assert json.loads((tmp_path / "pins.json").read_text()) == {"owner/pets": PIN}
    assert sources.unpinned(pets, tmp_path) == []
    (tmp_path / "pins.json").write_text("[1]")
    with pytest.raises(DataError, match="not a table of revisions"):
        sources.unpinned(pets, tmp_path)


@pytest.mark.parametrize(
    ("offline", "raised", "words"),
    [
        (True, None, "HF_HUB_OFFLINE is set"),
        (False, ConnectionError("Name or service\nnot known"), "cannot be reached (Name or service not known)"),
        (False, OSError(28, "No space left on device"), "the disk is full"),
    ],
)
def test_no_network_and_a_full_disk_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool, raised: Exception | None, words: str
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    def fail(*args: object, **options: object) -> str:
        assert raised is not None
        raise raised

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    source = {"kind": "hub", "repo": "owner/pets", "revision": PIN}
    with pytest.raises(DataError) as caught:
        sources.fetch(card("pets", NAMES, {"test": 1}, source), tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_row_groups_of_a_held_out_split_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = pq.ParquetFile.iter_batches

    def spy(self: pq.ParquetFile, *args: object, **options: object) -> object:
        read.append(options["row_groups"][0])  # type: ignore[index]
        return original(self, *args, **options)

    pets = make(tmp_path)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    held = sorted(sources.validation_rows(30))
    groups = {(index >= 15, (index % 15) // 4) for index in held}
    assert len(list(sources.rows(pets, "validation", tmp_path))) == 3
    assert len(read) == len(groups)
    assert np.all([g < 4 for g in read])
