"""Local folders in the layouts of the task_vectors and TTA reference code (Ilharco et al.; Ortiz-Jimenez et al.).

| layout | below the data folder |
|---|---|
| cars | `stanford_cars/`: `devkit/cars_meta.mat`, `devkit/cars_train_annos.mat`, `cars_test_annos_withlabels.mat`, |
|      | `cars_train/`, `cars_test/`; or `stanford_cars_folder_based/{train,test}/CLASS/` |
| dtd | `dtd/{train,val}/CLASS/`, the test images in `val` |
| eurosat | `EuroSAT_splits/{train,val,test}/Class/` |
| gtsrb | `gtsrb/GTSRB/Training/NNNNN/*.ppm`, `gtsrb/GTSRB/Final_Test/Images/`, `gtsrb/GT-final_test.csv` |
| mnist, svhn | torchvision's files: `MNIST/raw/`, `svhn/{train,test}_32x32.mat` |
| resisc45 | `resisc45/NWPU-RESISC45/CLASS/*.jpg`, `resisc45/resisc45-{train,test}.txt` |
| sun397 | `sun397/{train,val}/x_class/`, the test images in `val` |
| imagenet | `imagenet/train/nNNNNNNNN/`, `imagenet/{val_in_folder or val}/nNNNNNNNN/` |

Rows come in torchvision's `ImageFolder` order, on which the held-out split depends: classes sorted, then paths.
"""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.cards.datasets import Folder, Torchvision
from bench.errors import DataError, UnknownName, retold
from bench.pixels.sources import vision
from bench.pixels.sources.part import Part, read_files

IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
Files = tuple[list[tuple[Path, int]], tuple[str, ...]]
"""Image files with their labels, and class names in label order."""
Layout = tuple[Callable[[Path, str], list[Path]], Callable[[Path, str], Files]]
"""What must be there below the data folder for a part, and how its images are listed."""


def missing(source: Folder, part: str, root: Path) -> str:
    """What is not there, in a few words."""
    if source.layout in VISION:
        return vision.missing(VISION[source.layout], part, root)
    needed, _ = _layout(source)
    return next((f"no {path}" for path in needed(root, part) if not path.exists()), "")


def open_part(source: Folder, part: str, root: Path) -> Part:
    """The image files of a part and their labels."""
    if source.layout in VISION:
        return vision.open_part(VISION[source.layout], part, root)
    lack = missing(source, part, root)
    if lack:
        raise DataError(f"folder layout {source.layout!r}: {lack}")
    _, listing = _layout(source)
    files, names = listing(root, part)
    where = f"folder {source.layout} ({part}) in {root}"
    return Part(where, len(files), names, lambda indices: read_files(files, root, indices))


def fetch(source: Folder, parts: Sequence[str], root: Path, revision: str) -> None:
    """Nothing can be downloaded: say where the files belong."""
    for part in parts:
        lack = missing(source, part, root)
        if lack:
            raise DataError(f"{lack}; copy the files there (layouts: bench/pixels/sources/folder.py)")


def tree(folder: Path, keep: Callable[[str], bool] | None = None) -> Files:
    """Class folders below `folder`: images sorted by class, then by path, as `ImageFolder` orders them."""
    keep = keep or (lambda name: name.lower().endswith(IMAGES))
    names = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    files = [
        (Path(below) / name, label)
        for label, kind in enumerate(names)
        for below, _, members in sorted(os.walk(folder / kind, followlinks=True))
        for name in sorted(members)
        if keep(name)
    ]
    return files, names


def _cars_needed(root: Path, part: str) -> list[Path]:
    base, split = root / "stanford_cars", root / "stanford_cars_folder_based" / part
    if split.is_dir():
        return [split]
    notes = base / "devkit" / "cars_train_annos.mat" if part == "train" else base / "cars_test_annos_withlabels.mat"
    return [base / "devkit" / "cars_meta.mat", notes, base / f"cars_{part}"]


def _cars(root: Path, part: str) -> Files:
    needed = _cars_needed(root, part)
    if len(needed) == 1:
        return tree(needed[0])
    meta, notes, images = needed
    names = tuple(map(str, _matlab(meta)["class_names"].tolist()))
    return [(images / str(a["fname"]), int(a["class"]) - 1) for a in _matlab(notes)["annotations"].reshape(-1)], names


def _matlab(path: Path) -> dict[str, Any]:
    """A MATLAB file; never a pickle."""
    from scipy.io import loadmat

    # scipy's reader raises a dozen kinds on damaged files
    with retold(DataError, f"{path} cannot be read as a MATLAB file ({{why}})", Exception):
        return loadmat(path, squeeze_me=True)


def _gtsrb_needed(root: Path, part: str) -> list[Path]:
    base = root / "gtsrb"
    if part == "train":
        return [base / "GTSRB" / "Training"]
    return [base / "GTSRB" / "Final_Test" / "Images", base / "GT-final_test.csv"]


def _gtsrb(root: Path, part: str) -> Files:
    needed = _gtsrb_needed(root, part)
    if part == "train":
        return tree(needed[0], lambda name: name.lower().endswith(".ppm"))
    with needed[1].open(newline="", encoding="utf-8") as lines:
        table = list(csv.DictReader(lines, delimiter=";", skipinitialspace=True))
    text = f"{needed[1]} needs the columns Filename and ClassId, separated by semicolons"
    with retold(DataError, text, KeyError, TypeError, ValueError):
        return [(needed[0] / Path(row["Filename"]).name, int(row["ClassId"])) for row in table], ()


def _resisc_needed(root: Path, part: str) -> list[Path]:
    return [root / "resisc45" / "NWPU-RESISC45", root / "resisc45" / f"resisc45-{part}.txt"]


def _resisc(root: Path, part: str) -> Files:
    folder, list_ = _resisc_needed(root, part)
    listed = {line.strip() for line in list_.read_text(encoding="utf-8").splitlines() if line.strip()}
    files, names = tree(folder, listed.__contains__)
    absent = listed - {path.name for path, _ in files}
    if absent:
        raise DataError(f"resisc45-{part}.txt lists {len(absent)} images that are not there, for example {min(absent)}")
    return files, names


def _split(base: str, test: str) -> Layout:
    def where(root: Path, part: str) -> Path:
        return root / base / (test if part == "test" else part)

    return (lambda root, part: [where(root, part)]), (lambda root, part: tree(where(root, part)))


SUN_NEEDED, SUN_TREE = _split("sun397", "val")


def _sun(root: Path, part: str) -> Files:
    files, names = SUN_TREE(root, part)
    return files, tuple(name[2:] if name[1:2] == "_" else name for name in names)


def _imagenet_needed(root: Path, part: str) -> list[Path]:
    base = root / "imagenet"
    if part == "train":
        return [base / "train"]
    return [base / "val_in_folder" if (base / "val_in_folder").is_dir() else base / "val"]


LAYOUTS: dict[str, Layout] = {
    "cars": (_cars_needed, _cars),
    "dtd": _split("dtd", "val"),
    "eurosat": _split("EuroSAT_splits", "test"),
    "gtsrb": (_gtsrb_needed, _gtsrb),
    "resisc45": (_resisc_needed, _resisc),
    "sun397": (SUN_NEEDED, _sun),
    "imagenet": (_imagenet_needed, lambda root, part: tree(_imagenet_needed(root, part)[0])),
}
# Layouts that are torchvision's own files.
VISION = {
    "mnist": Torchvision(kind="torchvision", dataset="MNIST"),
    "svhn": Torchvision(kind="torchvision", dataset="SVHN"),
}


def _layout(source: Folder) -> Layout:
    if source.layout not in LAYOUTS:
        raise UnknownName("folder layout", source.layout, (*LAYOUTS, *VISION))
    return LAYOUTS[source.layout]
