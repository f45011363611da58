"""The eight tasks and ImageNet in miniature, in every format their cards name, decoded and compared."""

from pathlib import Path

import numpy as np
import pytest

from bench.pixels import sources
from bench.pixels.sources import decode
from tests.bench import miniature
from tests.bench.copies import picture


@pytest.mark.parametrize("kind", miniature.KINDS)
def test_every_task_in_every_format(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import SVHN

    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    found = miniature.write(kind, tmp_path)
    assert len(found) == len(miniature.KINDS[kind])
    for name, card in found.items():
        folder = decode.build(card, "test", 16, tmp_path / "cache", root=tmp_path)
        decode.verify(card, "test", 16, folder)
        labels, pixels = np.load(folder / "labels.npy"), np.load(folder / "pixels.npy")
        expected = [miniature.label(name, i) for i in range(miniature.TEST)]
        assert sorted(labels) == sorted(expected), name
        if name in ("mnist", "svhn"):
            continue
        exact = {
            (miniature.label(name, i), decode.pixels(picture(5_000 + i), 16).tobytes()) for i in range(miniature.TEST)
        }
        if kind == "hub":  # PNG inside: the very pixels, with their labels
            assert {(int(n), p.tobytes()) for n, p in zip(labels, pixels, strict=True)} == exact, name
        train = [row.id for row in sources.rows(card, "train", tmp_path)]
        held = [row.id for row in sources.rows(card, "validation", tmp_path)]
        assert (len(train), len(held), len({*train, *held})) == (45, 5, 50), name


def test_one_test_set_is_the_same_images_by_hub_and_by_folder(tmp_path: Path) -> None:
    """EuroSAT's labels and pixels agree although the hub numbers by card and the folders sort by other names."""
    sides = {}
    for kind in ("hub", "folder"):
        card = miniature.write(kind, tmp_path / kind)["eurosat"]
        folder = decode.build(card, "test", 16, tmp_path / "cache" / kind, root=tmp_path / kind)
        labels, pixels = np.load(folder / "labels.npy"), np.load(folder / "pixels.npy")
        sides[kind] = {(int(n), p.tobytes()) for n, p in zip(labels, pixels, strict=True)}
    assert len(sides["hub"]) == miniature.TEST
    assert sides["hub"] == sides["folder"]
