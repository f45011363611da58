"""Where the released weights of a backbone are, and whether a file that was put there by hand fits. No torch."""

import json
import os
from pathlib import Path

from bench.cards import suites
from bench.cards.suites import BackboneCard
from bench.pixels import images, sources

HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def weights_file(card: BackboneCard) -> Path:
    """Where a user may put a backbone's weights by hand: used before any hub, verified where a sha256 is recorded."""
    return images.cache_folder() / "weights" / f"{card.name.replace('/', '--')}.safetensors"


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
