"""What a run needs and this machine lacks: data sets and weights. Says so before any work, without importing torch."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from bench import cards, images, sources, suites
from bench.cards import SPLITS, DatasetCard, Split
from bench.cells import Cell, Finetune
from bench.errors import DataError
from bench.suites import BackboneCard, Suite

HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def weights_file(card: BackboneCard) -> Path:
    """Where a user may put a backbone's weights by hand: used before any hub, verified where a sha256 is recorded."""
    return images.cache_folder() / "weights" / f"{card.name.replace('/', '--')}.safetensors"


def needed(cells: Iterable[Cell]) -> list[tuple[str, Split]]:
    """Data sets and splits whose images these cells read, in the order of the cells."""
    found: dict[tuple[str, Split], None] = {}
    for cell in cells:
        several = [task for task, _ in getattr(cell, "tasks", ())]
        named = [*several, getattr(cell, "task", ""), getattr(cell, "control", "")]
        splits: tuple[Split, ...] = SPLITS if isinstance(cell, Finetune) else SPLITS[1:]
        known = [cards.load(task) for task in named if task]
        found |= {(card.name, split): None for card in known for split in splits if split in card.splits}
    return list(found)


def missing(suite: Suite, cells: Iterable[Cell]) -> list[str]:
    """One line for everything these cells need that is not here, with how to get it."""
    cells = list(cells)
    towers = [suites.backbone(name) for name in dict.fromkeys(cell.backbone for cell in cells)]
    lines = [
        f"weights of {card.name}: `hf download {card.hub or card.architecture}`, or put the file at "
        f"{weights_file(card)}"
        for card in towers
        if not has_weights(card)
    ]
    lines += [text for card in towers if (text := misfit(card))]
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


def misfit(card: BackboneCard) -> str:
    """What of a weight file that was put by hand does not fit its architecture; empty when all does.

    Reads the header alone, so that a file of another tower stops a run before its first cell. Architectures that are no
    plain vision transformer are left to open_clip.
    """
    path, config = weights_file(card), suites.architecture(card.architecture)
    vision = config.get("vision_cfg", {})
    plain = isinstance(vision.get("layers"), int) and not vision.get("attentional_pool")
    if card.weights == "bundled" or not path.is_file() or not plain:
        return ""
    wrong = f"weights of {card.name}: {path} is no file of {card.architecture} ("
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, HEADER_LIMIT)))
        shapes = {name: about["shape"] for name, about in header.items() if name != "__metadata__"}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{wrong}not a safetensors file: {' '.join(str(error).split())[:80]}); put the released file there"
    width, patch, block = vision["width"], vision["patch_size"], "visual.transformer.resblocks.{}.ln_1.weight"
    wanted: dict[str, list[int] | None] = {
        "visual.conv1.weight": [width, 3, patch, patch],
        "visual.proj": [width, config["embed_dim"]],
    }
    wanted[block.format(vision["layers"] - 1)], wanted[block.format(vision["layers"])] = [width], None
    off = [name for name, shape in wanted.items() if shapes.get(name) != shape]
    said = f"{off[0]} is {shapes.get(off[0], 'missing')} instead of {wanted[off[0]] or 'absent'}" if off else ""
    return f"{wrong}{said}); put the released file there" if off else ""


def has_weights(card: BackboneCard) -> bool:
    """Whether a backbone's weights are on this machine; True where only trying can tell."""
    if card.weights == "bundled":
        return (suites.ASSETS / f"{card.name}.safetensors").is_file()
    if weights_file(card).is_file() or not card.hub:
        return True
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("1", "true", "ON", "YES") and sources.reachable():
        return True
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(card.hub, name), str) for name in WEIGHTS)
