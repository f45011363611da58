from pathlib import Path

import pytest

from bench.cards import datasets, suites
from bench.errors import BenchError, DataError, UnknownName

GOOD = """
name = "toy"
title = "Toy"
licence = "none"
citation = "none"
classes = ["a", "b"]
templates = ["a photo of {}."]
[splits.test]
rows = 3
[[sources]]
kind = "procedural"
generator = "letters"
"""


def card(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(text)
    return path


def test_reads(tmp_path: Path) -> None:
    found = datasets.read(card(tmp_path, GOOD))
    assert (found.classes, found.splits["test"].rows) == (("a", "b"), 3)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{}", "thing", "has no {}"),
        ("rows = 3", "rows = 0", "greater than 0"),
        ('title = "Toy"', 'titel = "Toy"', "titel"),
        ("name = ", "name : ", "not valid TOML"),
        ('"toy"', '"other"', "must agree"),
        ("splits.test", "splits.train", "no \\[splits.test\\]"),
    ],
)
def test_every_problem_is_one_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        datasets.read(card(tmp_path, GOOD.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_fingerprint_is_about_meaning(tmp_path: Path) -> None:
    first = datasets.read(card(tmp_path, GOOD)).fingerprint
    assert datasets.read(card(tmp_path, GOOD.replace('"Toy"', '"A toy"'))).fingerprint == first
    assert datasets.read(card(tmp_path, GOOD.replace('"b"]', '"c"]'))).fingerprint != first


def test_every_shipped_card_is_valid() -> None:
    assert len(datasets.names()) >= 18
    assert all(datasets.load(name).name == name for name in datasets.names())


def test_every_suite_names_known_cards_and_backbones() -> None:
    assert suites.names()
    for suite in map(suites.load, suites.names()):
        assert all(suite.card(task) for task in (*suite.tasks, suite.control))
        assert all(suites.backbone(name) for name in suite.backbones)


def test_near_names() -> None:
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        datasets.load("digit")
    with pytest.raises(UnknownName, match="did you mean 'mini8'"):
        suites.load("mini")
    with pytest.raises(BenchError, match="correct the suite file"):
        suites.load("mini8").recipe("att", learning_rate=1)


def test_bundled_weights_are_the_ones_that_keys_speak_of() -> None:
    """Without their hash in the fingerprint, other weights would give other results under the same keys."""
    import hashlib

    bundled = [suites.backbone(n) for n in suites.backbone_names() if suites.backbone(n).weights == "bundled"]
    assert bundled
    for card in bundled:
        assert card.sha256 == hashlib.sha256((suites.ASSETS / f"{card.name}.safetensors").read_bytes()).hexdigest()
