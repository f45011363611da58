"""What a run needs and this machine lacks: data sets and weights. Says so before any work, without importing torch."""

from collections.abc import Iterable

from bench.cards import datasets, suites
from bench.cards.datasets import DatasetCard, Split
from bench.cards.suites import Suite
from bench.errors import DataError
from bench.kinds.base import Cell, Read
from bench.pixels import images, sources
from bench.work import weights


def needed(cells: Iterable[Cell]) -> list[Read]:
    """Data sets and splits whose images these cells read, in the order of the cells."""
    reads = dict.fromkeys(read for cell in cells for read in cell.reads)
    return [(task, split) for task, split in reads if split in datasets.load(task).splits]


def missing(suite: Suite, cells: Iterable[Cell]) -> list[str]:
    """One line for everything these cells need that is not here, with how to get it."""
    cells = list(cells)
    towers = [suites.backbone(name) for name in dict.fromkeys(cell.backbone for cell in cells)]
    lines = [
        f"weights of {card.name}: `hf download {card.hub or card.architecture}`, or put the file at "
        f"{weights.weights_file(card)}"
        for card in towers
        if not weights.has_weights(card)
    ]
    lines += [text for card in towers if (text := weights.misfit(card))]
    splits: dict[str, list[Split]] = {}
    for task, split in needed(cells):
        splits.setdefault(task, []).append(split)
    for task in (task for task in (*suite.tasks, suite.control) if task in splits):
        card = suite.card(task)
        if not all(has_images(card, tower.image_size, splits[task]) for tower in towers):
            rows = sum(split.rows for split in card.splits.values())
            pin = " --revision COMMIT" if sources.unpinned(card) else ""
            lines.append(
                f"data set {task} ({rows:,} images): `bench data fetch {task}{pin}`, or set BENCH_DATA to its folder"
            )
    return lines


def require(suite: Suite, cells: Iterable[Cell]) -> None:
    """DataError with the whole list when something is missing."""
    lines = missing(suite, cells)
    if lines:
        listed = "; ".join(f"({i}) {line}" for i, line in enumerate(lines, start=1))
        raise DataError(f"suite {suite.name} cannot run here, {len(lines)} thing(s) are missing: {listed}")


def has_images(card: DatasetCard, size: int, splits: Iterable[Split] = ()) -> bool:
    """Whether splits (all by default) are here: drawn, decoded for this size of images, or as source files."""
    wanted = tuple(splits) or tuple(card.splits)
    if card.drawn or all(images.folder_of(card, split, size).is_dir() for split in wanted):
        return True
    return "" in sources.available(card).values()
