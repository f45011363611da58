"""vision8 and its control in miniature: a few tiny images a task, in each of the three source formats.

`cards_of(kind)` are the real cards with small splits and one source; `write(kind, root)` puts matching files below
`root`. Class lists, templates, epochs, layouts, columns and label conventions are the real ones.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import savemat

from bench.cards import datasets
from bench.cards.datasets import DatasetCard, Folder, SplitCard
from bench.pixels.sources.hub import pattern
from tests.bench.copies import idx, picture, png, shard

TASKS = ("cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn", "imagenet")
VISION = ("cars", "gtsrb", "mnist", "svhn")  # torchvision's DTD takes its classes from the images that are there
KINDS = {"hub": TASKS, "folder": TASKS, "torchvision": VISION}
TRAIN, HELD, TEST = 50, 5, 12  # every one of GTSRB's 43 classes in training, as torchvision asks


def card_of(name: str, kind: str) -> DatasetCard:
    """The real card with 45 + 5 training and 12 test rows, and only its source of one kind, unpinned."""
    real = datasets.load(name)
    source = next(s for s in real.sources if s.kind == kind)
    splits = {
        "train": SplitCard(rows=TRAIN - HELD),
        "validation": SplitCard(rows=HELD),
        "test": SplitCard(rows=TEST),
    }
    return real.model_copy(update={"splits": splits, "sources": (source,)})


def cards_of(kind: str) -> dict[str, DatasetCard]:
    """All cards that have a source of this kind."""
    return {name: card_of(name, kind) for name in KINDS[kind]}


def label(name: str, row: int) -> int:
    """Card label of a row: spread over the classes."""
    return (7 * row) % len(datasets.load(name).classes)


def write(kind: str, root: Path) -> dict[str, DatasetCard]:
    """Write every task in one format below `root` and return the cards."""
    for name, card in cards_of(kind).items():
        if kind == "hub":
            _hub(card, root)
        else:
            WRITERS[name](name, root)
    return cards_of(kind)


def _seed(part: str, row: int) -> int:
    return (5_000 if part == "test" else 0) + row


def _hub(card: DatasetCard, root: Path) -> None:
    (source,) = card.sources
    assert isinstance(source, datasets.Hub)
    for part, count, name in (("train", TRAIN, source.train), ("test", TEST, source.test)):
        images = [png(picture(_seed(part, i))) for i in range(count)]
        labels = [label(card.name, i) for i in range(count)]
        columns = (source.image_column, source.label_column)
        path = root / source.repo / pattern(source, name).replace("*", "00000-of-00001")
        shard(path, images, labels, card.classes, columns=columns, row_group=16)


def _folders(where: dict[str, str], folder_of: Callable[[str], str]) -> Callable[[str, Path], None]:
    def write_(name: str, root: Path) -> None:
        card = datasets.load(name)
        source = next((s for s in card.sources if isinstance(s, Folder)), None)
        known = source.labels if source and source.labels else card.classes
        names = [f"n{i:08d}" for i in range(len(known))] if name == "imagenet" else [folder_of(k) for k in known]
        for part, count in (("train", TRAIN), ("test", TEST)):
            for kind in names:
                (root / where[part] / kind).mkdir(parents=True, exist_ok=True)
            for row in range(count):
                picture(_seed(part, row)).save(root / where[part] / names[label(name, row)] / f"{part}_{row:03d}.png")

    return write_


def _cars(name: str, root: Path) -> None:
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit/cars_meta.mat", {"class_names": np.array(datasets.load(name).classes, dtype=object)})
    for part, count, path in (
        ("train", TRAIN, base / "devkit/cars_train_annos.mat"),
        ("test", TEST, base / "cars_test_annos_withlabels.mat"),
    ):
        (base / f"cars_{part}").mkdir()
        rows = [(label(name, i) + 1, f"{i:05d}.jpg") for i in range(count)]
        for row, (_, file) in enumerate(rows):
            picture(_seed(part, row)).save(base / f"cars_{part}" / file)
        savemat(path, {"annotations": np.array(rows, dtype=[("class", "O"), ("fname", "O")])})


def _gtsrb(name: str, root: Path) -> None:
    training = root / "gtsrb/GTSRB/Training"
    for number in range(len(datasets.load(name).classes)):
        (training / f"{number:05d}").mkdir(parents=True)
    for row in range(TRAIN):
        picture(_seed("train", row)).save(training / f"{label(name, row):05d}" / f"{row:05d}.ppm")
    images = root / "gtsrb/GTSRB/Final_Test/Images"
    images.mkdir(parents=True)
    lines = ["Filename;ClassId"]
    for row in range(TEST):
        picture(_seed("test", row)).save(images / f"{row:05d}.ppm")
        lines.append(f"{row:05d}.ppm;{label(name, row)}")
    (root / "gtsrb/GT-final_test.csv").write_text("\n".join(lines) + "\n")


def _mnist(name: str, root: Path) -> None:
    for part, prefix, count in (("train", "train", TRAIN), ("test", "t10k", TEST)):
        grey = [np.asarray(picture(_seed(part, i), 28, 28).convert("L")) for i in range(count)]
        idx(root / f"MNIST/raw/{prefix}-images-idx3-ubyte", np.stack(grey))
        idx(root / f"MNIST/raw/{prefix}-labels-idx1-ubyte", np.array([label(name, i) for i in range(count)]))


def _svhn(name: str, root: Path) -> None:
    (root / "svhn").mkdir(parents=True)
    for part, count in (("train", TRAIN), ("test", TEST)):
        images = [np.asarray(picture(_seed(part, i), 32, 32)) for i in range(count)]
        labels = [label(name, i) or 10 for i in range(count)]
        path = root / f"svhn/{part}_32x32.mat"
        savemat(path, {"X": np.stack(images, axis=-1), "y": np.array(labels)[:, None]})


def _resisc(name: str, root: Path) -> None:
    def write_(part: str, count: int) -> None:
        classes = [c.replace(" ", "_") for c in datasets.load(name).classes]
        for kind in classes:
            (root / "resisc45/NWPU-RESISC45" / kind).mkdir(parents=True, exist_ok=True)
        files = [f"{classes[label(name, i)]}_{part}{i:03d}.jpg" for i in range(count)]
        for row, file in enumerate(files):
            picture(_seed(part, row)).save(root / "resisc45/NWPU-RESISC45" / classes[label(name, row)] / file)
        (root / f"resisc45/resisc45-{part}.txt").write_text("\n".join(files) + "\n")

    write_("train", TRAIN)
    write_("test", TEST)


WRITERS: dict[str, Callable[[str, Path], None]] = {
    "cars": _cars,
    "dtd": _folders({"train": "dtd/train", "test": "dtd/val"}, str),
    "eurosat": _folders({"train": "EuroSAT_splits/train", "test": "EuroSAT_splits/test"}, str),
    "gtsrb": _gtsrb,
    "mnist": _mnist,
    "resisc45": _resisc,
    "sun397": _folders(
        {"train": "sun397/train", "test": "sun397/val"}, lambda kind: f"{kind[0]}_{kind.replace(' ', '_')}"
    ),
    "svhn": _svhn,
    "imagenet": _folders({"train": "imagenet/train", "test": "imagenet/val"}, str),
}
