"""What a run needs and this machine lacks: data sets and weights. Says so before any work, without importing torch."""

import os
from collections.abc import Iterable
from pathlib import Path

from bench import images, sources, suites
from bench.cards import DatasetCard
from bench.cells import Cell
from bench.errors import DataError
from bench.suites import BackboneCard, Suite

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def weights_file(card: BackboneCard) -> Path:
    """Where a user may put a backbone's weights by hand: used before any hub, verified where a sha256 is recorded."""
    return images.cache_folder() / "weights" / f"{card.name.replace('/', '--')}.safetensors"


def missing(suite: Suite, cells: Iterable[Cell]) -> list[str]:
    """One line for everything these cells need that is not here, with how to get it."""
    towers = [suites.backbone(name) for name in dict.fromkeys(cell.backbone for cell in cells)]
    sizes = {card.image_size for card in towers} or {224}
    lines = [
        f"weights of {card.name}: `huggingface-cli download {card.hub or card.architecture}`, or put the file at "
        f"{weights_file(card)}"
        for card in towers
        if not has_weights(card)
    ]
    for task in (*suite.tasks, suite.control):
        card = suite.card(task)
        if not all(has_images(card, size) for size in sizes):
            rows = sum(split.rows for split in card.splits.values())
            lines.append(
                f"data set {task} ({rows:,} images): `bench data fetch {task}`, or set BENCH_DATA to its folder"
            )
    return lines


def require(suite: Suite, cells: Iterable[Cell]) -> None:
    """DataError with the whole list when something is missing."""
    lines = missing(suite, cells)
    if lines:
        listed = "; ".join(f"({i}) {line}" for i, line in enumerate(lines, start=1))
        raise DataError(f"suite {suite.name} cannot run here, {len(lines)} thing(s) are missing: {listed}")


def has_images(card: DatasetCard, size: int) -> bool:
    """Whether a data set's images are on this machine: drawn, decoded for this size of images, or as source files."""
    if images.drawn(card) or all(images.folder_of(card, split, size).is_dir() for split in card.splits):
        return True
    return "" in sources.available(card).values()


def has_weights(card: BackboneCard) -> bool:
    """Whether a backbone's weights are on this machine; True where only trying can tell."""
    if card.weights == "bundled":
        return (suites.ASSETS / f"{card.name}.safetensors").is_file()
    if weights_file(card).is_file() or not card.hub:
        return True
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("1", "true", "ON", "YES") and _online():
        return True
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(card.hub, name), str) for name in WEIGHTS)


def _online() -> bool:
    """Whether the model hub's name resolves."""
    import socket

    from huggingface_hub.constants import ENDPOINT

    try:
        socket.getaddrinfo(ENDPOINT.removeprefix("https://").removeprefix("http://").split("/")[0], 443)
    except OSError:
        return False
    return True
