"""The images that cells read, decoded and compared with what the store was computed from before the first cell runs."""

import os
from collections.abc import Sequence
from pathlib import Path

from bench.cards import datasets, suites
from bench.cards.datasets import DatasetCard, Split
from bench.driver.base import Observer
from bench.kinds.base import Cell
from bench.pixels import images
from bench.pixels.sources.decode import build
from bench.planning import preflight
from bench.store.store import Store

FEW = 2_000
"""Rows that are decoded sooner than processes start."""


def decode_missing(cells: Sequence[Cell], observer: Observer) -> None:
    """Decode what these cells read and the cache does not hold, so that a wrong row stops a run before any work."""
    sizes = {suites.backbone(cell.backbone).image_size for cell in cells}
    for task, split in preflight.needed(cells):
        card = datasets.load(task)
        for size in sorted(sizes):
            if not images.ready(card, split, size):
                decoded(card, split, size, observer)


def same_rows(cells: Sequence[Cell], store: Store) -> None:
    """StoreError unless these cells read the rows that the results in the store were computed from."""
    size = suites.backbone(cells[0].backbone).image_size if cells else 0
    for task, split in preflight.needed(cells):
        card = datasets.load(task)
        if not card.drawn:
            store.agree(f"{task}-{split}", images.row_hash(card, split, size))


def decoded(card: DatasetCard, split: Split, size: int, observer: Observer, source: str = "") -> Path:
    """Decode a split with all cores; the cache folder."""
    rows, cores = card.splits[split].rows, os.cpu_count() or 1
    return build(
        card, split, size, images.cache_folder() / "images", kind=source,
        workers=cores if cores > 1 and rows > FEW else 0,
        progress=lambda done, total: observer.decoding(f"{card.name} {split}", done, total),
    )  # fmt: skip
