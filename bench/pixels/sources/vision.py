"""torchvision's own data set classes, on their on-disk formats below the data folder.

Where a class keeps its images as files, the files' bytes are handed on; where it keeps arrays, PIL images are.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cards.datasets import Torchvision
from bench.errors import DataError, UnknownName, retold
from bench.pixels.sources.part import Part, read_files

if TYPE_CHECKING:
    from PIL.Image import Image

# Class names of FER-2013 in its own label order, which the torchvision class does not carry.
FER_NAMES = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
Files = Callable[[Any], list[tuple[Path, int]]]


@dataclass(frozen=True)
class Kind:
    """How one torchvision class is called and read.

    `there` is the last path that a download makes, so that one that broke off is not taken for the data. `train` and
    `test` are the class's names for the parts (several are joined in order), `keyword` the argument that takes them,
    `below` the folder it wants as root. `files` lists image files and labels, for classes that keep files. `names`
    overrides the class names; None takes `classes`. `first` is the smallest label.
    """

    there: str
    train: tuple[Any, ...] = ("train",)
    test: tuple[Any, ...] = ("test",)
    keyword: str = "split"
    below: str = ""
    files: Files | None = None
    names: tuple[str, ...] | None = None
    first: int = 0
    transposed: bool = False
    options: tuple[tuple[str, Any], ...] = ()


def _pairs(paths: str, labels: str) -> Files:
    return lambda data: [(Path(p), int(n)) for p, n in zip(getattr(data, paths), getattr(data, labels), strict=True)]


def _samples(attribute: str) -> Files:
    return lambda data: [(Path(p), int(n)) for p, n in getattr(data, attribute)]


def _boolean(there: str, **options: Any) -> Kind:
    return Kind(there, train=(True,), test=(False,), keyword="train", **options)


KINDS: dict[str, Kind] = {
    "CIFAR10": _boolean("cifar-10-batches-py/test_batch"),
    "CIFAR100": _boolean("cifar-100-python/test"),
    "DTD": Kind("dtd/dtd/images", train=("train", "val"), files=_pairs("_image_files", "_labels")),
    # EMNIST's files hold every letter transposed, and count labels from 1.
    "EMNIST": _boolean(
        "EMNIST/raw/emnist-letters-test-labels-idx1-ubyte",
        names=LETTERS,
        first=1,
        transposed=True,
        options=(("split", "letters"),),
    ),
    "FER2013": Kind("fer2013", names=FER_NAMES),
    "FashionMNIST": _boolean("FashionMNIST/raw/t10k-labels-idx1-ubyte"),
    "Flowers102": Kind("flowers-102/jpg", files=_pairs("_image_files", "_labels")),
    "Food101": Kind("food-101/images", files=_pairs("_image_files", "_labels")),
    "GTSRB": Kind("gtsrb/GTSRB", files=_samples("_samples"), names=()),
    "ImageNet": Kind("imagenet/val", test=("val",), below="imagenet", files=_samples("samples"), names=()),
    "KMNIST": _boolean("KMNIST/raw/t10k-labels-idx1-ubyte"),
    "MNIST": _boolean("MNIST/raw/t10k-labels-idx1-ubyte", names=()),
    "OxfordIIITPet": Kind("oxford-iiit-pet/images", train=("trainval",), files=_pairs("_images", "_labels")),
    "PCAM": Kind("pcam", names=()),
    "RenderedSST2": Kind("rendered-sst2", files=_samples("_samples")),
    "STL10": Kind("stl10/stl10_binary", below="stl10"),
    "SVHN": Kind("svhn/test_32x32.mat", below="svhn", names=()),
    "StanfordCars": Kind("stanford_cars/devkit", files=_samples("_samples")),
}


def missing(source: Torchvision, part: str, root: Path) -> str:
    """What is not there, in a few words; looks at paths only, so that listing stays cheap."""
    wanted = root / _kind(source).there
    return "" if wanted.exists() else f"no {wanted}"


def open_part(source: Torchvision, part: str, root: Path) -> Part:
    """The data sets that make up a part, one after the other."""
    data, kind = _open(source, part, root), _kind(source)
    names = kind.names if kind.names is not None else tuple(map(str, getattr(data[0], "classes", ())))
    where = f"torchvision {source.dataset} ({part}) in {root}"
    if kind.files is None:
        return Part(where, sum(map(len, data)), names, lambda indices: _images(data, kind, part, indices))
    files = [(path, label - kind.first) for each in data for path, label in kind.files(each)]
    return Part(where, len(files), names, lambda indices: read_files(files, root, indices))


def fetch(source: Torchvision, parts: Sequence[str], root: Path, revision: str) -> None:
    """Let torchvision download and unpack."""
    for part in parts:
        _open(source, part, root, download=True)


def _open(source: Torchvision, part: str, root: Path, download: bool = False) -> list[Any]:
    kind = _kind(source)
    from torchvision import datasets

    options = dict(kind.options) | ({"download": True} if download and source.dataset != "ImageNet" else {})
    folder = root / kind.below
    text = f"torchvision's {source.dataset} cannot be read in {folder} ({{why}})"
    # Missing files, checksums, absent h5py, dead addresses: torchvision raises many kinds, with a text.
    with retold(DataError, text, Exception), contextlib.redirect_stdout(io.StringIO()):
        make = getattr(datasets, source.dataset)
        names = kind.test if part == "test" else kind.train
        return [make(folder, **{kind.keyword: name}, **options) for name in names]


def _kind(source: Torchvision) -> Kind:
    if source.dataset not in KINDS:
        raise UnknownName("torchvision data set", source.dataset, KINDS)
    return KINDS[source.dataset]


def _images(data: Sequence[Any], kind: Kind, part: str, indices: Sequence[int]) -> "Iterator[tuple[str, Image, int]]":
    from PIL.Image import Transpose
    from torch.utils.data import ConcatDataset

    joined: ConcatDataset[Any] = ConcatDataset(data)
    for index in indices:
        image, label = joined[index]
        upright = image.transpose(Transpose.TRANSPOSE) if kind.transposed else image
        yield f"{part}/{index}", upright, int(label) - kind.first
