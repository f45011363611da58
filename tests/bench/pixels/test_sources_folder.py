"""The reference code's folder layouts and torchvision's own formats, written small and read back."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from bench.cards import datasets
from bench.cards.datasets import DatasetCard
from bench.errors import BenchError, DataError
from bench.pixels import sources
from tests.bench.copies import card, class_folders, idx, picture, png


def folder(layout: str, classes: list[str], rows: dict[str, int], **fields: object) -> DatasetCard:
    return card(layout, classes, rows, {"kind": "folder", "layout": layout, **fields})


def labels(task: DatasetCard, split: str, root: Path) -> list[int]:
    return [row.label for row in sources.rows(task, split, root)]  # type: ignore[arg-type]


def cars_mat(base: Path, classes: list[str], train: list[int], test: list[int]) -> None:
    """The devkit as MATLAB wrote it: struct arrays whose classes count from 1."""
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit/cars_meta.mat", {"class_names": np.array(classes, dtype=object)})
    for part, kinds, path in (
        ("train", train, base / "devkit/cars_train_annos.mat"),
        ("test", test, base / "cars_test_annos_withlabels.mat"),
    ):
        (base / f"cars_{part}").mkdir()
        rows = []
        for number, kind in enumerate(kinds):
            name = f"{number + 1:05d}.jpg"
            picture(number).save(base / f"cars_{part}" / name)
            rows.append((1, 1, 9, 9, kind + 1, name))
        fields = [
            ("bbox_x1", "O"),
            ("bbox_y1", "O"),
            ("bbox_x2", "O"),
            ("bbox_y2", "O"),
            ("class", "O"),
            ("fname", "O"),
        ]
        savemat(path, {"annotations": np.array(rows, dtype=fields)})


CARS = ["Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"]


def test_cars_devkit_read_by_folder_and_by_torchvision_alike(tmp_path: Path) -> None:
    cars_mat(tmp_path / "stanford_cars", CARS, [0, 1] * 5, [1, 0, 1])
    rows = {"train": 9, "validation": 1, "test": 3}
    here = folder("cars", CARS, rows)
    assert labels(here, "test", tmp_path) == [1, 0, 1]
    ours = [row.id for row in sources.rows(here, "train", tmp_path)]
    theirs = card("cars", CARS, rows, {"kind": "torchvision", "dataset": "StanfordCars"})
    assert [row.id for row in sources.rows(theirs, "train", tmp_path)] == ours
    assert ours[0].startswith("stanford_cars/cars_train/0000")


def test_cars_as_class_folders(tmp_path: Path) -> None:
    names = [name.replace("/", "-") for name in CARS]
    class_folders(tmp_path / "stanford_cars_folder_based/test", names, 2)
    assert labels(folder("cars", CARS, {"test": 4}), "test", tmp_path) == [0, 0, 1, 1]


def test_dtd_tests_on_its_val_folder(tmp_path: Path) -> None:
    class_folders(tmp_path / "dtd/train", ["banded", "polka-dotted"], 10)
    class_folders(tmp_path / "dtd/val", ["banded", "polka-dotted"], 1, seed=7000)
    dtd = folder("dtd", ["banded", "polka-dotted"], {"train": 18, "validation": 2, "test": 2})
    found = [row.id.split(":")[0] for row in sources.rows(dtd, "test", tmp_path)]
    assert found == ["dtd/val/banded/banded_000.png", "dtd/val/polka-dotted/polka-dotted_000.png"]


EURO = ["annual crop land", "lake or sea", "forest"]


def test_eurosat_maps_folders_by_name_and_uses_its_val_folder_where_the_card_says_so(tmp_path: Path) -> None:
    for part, each in (("train", 4), ("val", 2), ("test", 1)):
        class_folders(
            tmp_path / "EuroSAT_splits" / part, ["AnnualCrop", "Forest", "SeaLake"], each, seed=len(part) * 900
        )
    names = ["AnnualCrop", "SeaLake", "Forest"]
    own = folder("eurosat", EURO, {"train": 12, "validation": 6, "test": 3}, validation="val", labels=names)
    assert labels(own, "test", tmp_path) == [0, 2, 1]
    assert labels(own, "validation", tmp_path) == [0, 0, 2, 2, 1, 1]
    assert len(labels(own, "train", tmp_path)) == 12
    held = folder("eurosat", EURO, {"train": 11, "validation": 1, "test": 3}, labels=names)
    assert len(labels(held, "train", tmp_path)) == 11


def gtsrb(root: Path, classes: int) -> None:
    training = root / "gtsrb/GTSRB/Training"
    class_folders(training, [f"{i:05d}" for i in range(classes)], 10 // classes, suffix=".ppm")
    images = root / "gtsrb/GTSRB/Final_Test/Images"
    images.mkdir(parents=True)
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for i, kind in enumerate([1, 0, 1]):
        picture(900 + i).save(images / f"{i:05d}.ppm")
        lines.append(f"{i:05d}.ppm;24;20;1;1;9;9;{kind}")
    (root / "gtsrb/GT-final_test.csv").write_text("\n".join(lines) + "\n")


def test_gtsrb_by_folder_and_by_torchvision(tmp_path: Path) -> None:
    gtsrb(tmp_path, 2)
    rows = {"train": 9, "validation": 1, "test": 3}
    here = folder("gtsrb", ["twenty", "thirty"], rows)
    theirs = card("gtsrb", ["twenty", "thirty"], rows, {"kind": "torchvision", "dataset": "GTSRB"})
    assert labels(here, "test", tmp_path) == [1, 0, 1]
    for split in rows:
        ours = [row.id for row in sources.rows(here, split, tmp_path)]  # type: ignore[arg-type]
        assert [row.id for row in sources.rows(theirs, split, tmp_path)] == ours  # type: ignore[arg-type]
    (tmp_path / "gtsrb/GT-final_test.csv").write_text("Name,Label\nx,1\n")
    with pytest.raises(DataError, match="needs the columns Filename and ClassId"):
        labels(here, "test", tmp_path)


def test_resisc45_follows_its_split_lists(tmp_path: Path) -> None:
    class_folders(tmp_path / "resisc45/NWPU-RESISC45", ["airport", "sea_ice"], 6, suffix=".jpg")
    lists = {"train": [f"{c}_00{i}.jpg" for c in ("airport", "sea_ice") for i in range(5)], "test": ["sea_ice_005.jpg"]}
    for part, names in lists.items():
        (tmp_path / f"resisc45/resisc45-{part}.txt").write_text("\n".join(names) + "\n")
    task = folder("resisc45", ["airport", "sea ice"], {"train": 9, "validation": 1, "test": 1})
    assert labels(task, "test", tmp_path) == [1]
    assert len(labels(task, "train", tmp_path)) == 9
    (tmp_path / "resisc45/resisc45-test.txt").write_text("sea_ice_005.jpg\nsea_ice_999.jpg\n")
    with pytest.raises(DataError, match=r"lists 1 images that are not there, for example sea_ice_999\.jpg"):
        labels(task, "test", tmp_path)


def test_sun397_strips_the_letter_of_its_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "sun397/val", ["a_abbey", "a_airplane_cabin", "y_yard"], 1)
    assert labels(folder("sun397", ["yard", "abbey", "airplane cabin"], {"test": 3}), "test", tmp_path) == [1, 2, 0]


def test_imagenet_matches_synsets_by_position(tmp_path: Path) -> None:
    class_folders(tmp_path / "imagenet/val_in_folder", ["n01440764", "n01443537"], 1)
    assert labels(folder("imagenet", ["tench", "goldfish"], {"test": 2}, match="position"), "test", tmp_path) == [0, 1]


def mnist(root: Path, name: str, train: int, test: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", train), ("t10k", test)):
        images, kinds = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count) % 10
        idx(root / name / "raw" / f"{part}-images-idx3-ubyte", images)
        idx(root / name / "raw" / f"{part}-labels-idx1-ubyte", kinds)
        arrays[part] = images
    return arrays["train"], arrays["t10k"]


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_idx_files(tmp_path: Path, name: str) -> None:
    _, images = mnist(tmp_path, name, 20, 12)
    digits = [str(i) for i in range(10)]
    source = {"kind": "torchvision", "dataset": name, "match": "position"}
    task = card("task", digits, {"train": 18, "validation": 2, "test": 12}, source)
    found = list(sources.rows(task, "test", tmp_path))
    assert [row.label for row in found] == [i % 10 for i in range(12)]
    for row, array in zip(found, images, strict=True):
        assert isinstance(row.image, Image.Image)
        np.testing.assert_array_equal(np.asarray(row.image), array)
    if name == "MNIST":
        here = folder("mnist", digits, {"train": 18, "validation": 2, "test": 12})
        assert [row.id for row in sources.rows(here, "test", tmp_path)] == [row.id for row in found]


def test_emnist_letters_stand_upright_and_count_from_zero(tmp_path: Path) -> None:
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    for part in ("train", "test"):
        idx(tmp_path / f"EMNIST/raw/emnist-letters-{part}-images-idx3-ubyte", images)
        idx(tmp_path / f"EMNIST/raw/emnist-letters-{part}-labels-idx1-ubyte", np.array([1, 26]))
    task = card("emnist", [chr(65 + i) for i in range(26)], {"test": 2}, {"kind": "torchvision", "dataset": "EMNIST"})
    found = list(sources.rows(task, "test", tmp_path))
    assert [row.label for row in found] == [0, 25]
    np.testing.assert_array_equal(np.asarray(found[0].image), images[0].T)


def test_svhn_mat_files_with_ten_for_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import SVHN

    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 3), dtype=np.uint8)
    (tmp_path / "svhn").mkdir()
    savemat(tmp_path / "svhn/test_32x32.mat", {"X": images, "y": np.array([[10], [1], [9]])})
    task = folder("svhn", [str(i) for i in range(10)], {"test": 3})
    found = list(sources.rows(task, "test", tmp_path))
    assert [row.label for row in found] == [0, 1, 9]
    np.testing.assert_array_equal(np.asarray(found[1].image), images[..., 1])


def test_cifar10_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: True)
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    (base / "test_batch").write_bytes(pickle.dumps({"data": pixels, "labels": [9, 3]}))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    task = card("cifar10", names[::-1], {"test": 2}, {"kind": "torchvision", "dataset": "CIFAR10"})
    found = list(sources.rows(task, "test", tmp_path))
    assert [row.label for row in found] == [0, 6]
    np.testing.assert_array_equal(np.asarray(found[0].image), pixels[0].reshape(3, 32, 32).transpose(1, 2, 0))


def test_dtd_by_torchvision_joins_train_and_val(tmp_path: Path) -> None:
    base = tmp_path / "dtd/dtd"
    class_folders(base / "images", ["banded", "woven"], 3, suffix=".jpg")
    (base / "labels").mkdir()
    for part, number in (("train", 0), ("val", 1), ("test", 2)):
        lines = [f"{name}/{name}_00{number}.jpg" for name in ("banded", "woven")]
        (base / f"labels/{part}1.txt").write_text("\n".join(lines) + "\n")
    task = card("dtd", ["woven", "banded"], {"train": 4, "test": 2}, {"kind": "torchvision", "dataset": "DTD"})
    assert labels(task, "test", tmp_path) == [1, 0]
    assert labels(task, "train", tmp_path) == [1, 0, 1, 0]


def test_missing_files_and_unknown_names_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder: no .*dtd/val"):
        labels(folder("dtd", ["a", "b"], {"test": 1}), "test", tmp_path)
    with pytest.raises(BenchError, match="no folder layout named 'dtb'; did you mean 'dtd'"):
        labels(folder("dtb", ["a", "b"], {"test": 1}), "test", tmp_path)
    with pytest.raises(BenchError, match="did you mean 'SVHN'"):
        labels(card("x", ["a", "b"], {"test": 1}, {"kind": "torchvision", "dataset": "SVNH"}), "test", tmp_path)
    svhn = card("x", ["a", "b"], {"test": 1}, {"kind": "torchvision", "dataset": "SVHN"})
    with pytest.raises(DataError, match=r"torchvision: no .*svhn/test_32x32\.mat"):
        labels(svhn, "test", tmp_path)
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn/test_32x32.mat").write_bytes(b"x")
    with pytest.raises(DataError, match="torchvision's SVHN cannot be read"):
        labels(svhn, "test", tmp_path)
    with pytest.raises(DataError, match="copy the files there"):
        sources.fetch(folder("dtd", ["a", "b"], {"test": 1}), tmp_path)


def test_a_damaged_matlab_file_is_named(tmp_path: Path) -> None:
    cars_mat(tmp_path / "stanford_cars", CARS, [0], [0])
    (tmp_path / "stanford_cars/cars_test_annos_withlabels.mat").write_bytes(b"not matlab")
    with pytest.raises(DataError, match=r"cars_test_annos_withlabels\.mat cannot be read as a MATLAB file"):
        labels(folder("cars", CARS, {"test": 1}), "test", tmp_path)


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    cars_mat(tmp_path / "stanford_cars", CARS, [0], [0])
    (tmp_path / "stanford_cars/cars_test/00001.jpg").unlink()
    with pytest.raises(DataError, match=r"cannot read image .*00001\.jpg"):
        labels(folder("cars", CARS, {"test": 1}), "test", tmp_path)


def test_image_bytes_are_the_files_bytes(tmp_path: Path) -> None:
    class_folders(tmp_path / "dtd/val", ["a", "b"], 1)
    found = list(sources.rows(folder("dtd", ["a", "b"], {"test": 2}), "test", tmp_path))
    assert found[0].image == png(picture(0))


def test_a_download_that_broke_off_is_not_taken_for_the_data(tmp_path: Path) -> None:
    """torchvision makes its folders first and its last file last."""
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"")
    found = sources.available(datasets.load("mnist"), tmp_path)
    assert found["torchvision"] == found["folder"] == f"no {raw / 't10k-labels-idx1-ubyte'}"
