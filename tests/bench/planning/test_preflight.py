from pathlib import Path

import pytest

from bench.cards import suites
from bench.errors import DataError, UnknownName
from bench.planning import preflight
from bench.planning.grid import grid, plan
from bench.registry import catalogue
from bench.work import weights


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no data, no weights and no network."""
    for name in ("BENCH_CACHE", "BENCH_DATA", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def cells(name: str) -> list:
    return plan(suites.load(name), grid("demo"), catalogue.load())


def test_the_embedded_suite_needs_nothing() -> None:
    assert preflight.missing(suites.load("mini8"), cells("mini8")) == []


def test_the_paper_suite_lists_three_towers_and_nine_data_sets() -> None:
    lines = preflight.missing(suites.load("vision8"), cells("vision8"))
    assert sum(line.startswith("weights of ViT-") for line in lines) == 3
    assert sum("`bench data fetch" in line for line in lines) == 9
    with pytest.raises(DataError, match=r"12 thing\(s\) are missing: \(1\) weights of ViT-B-32") as caught:
        preflight.require(suites.load("vision8"), cells("vision8"))
    assert "\n" not in str(caught.value)


def test_a_file_put_by_hand_counts(tmp_path: Path) -> None:
    card = suites.backbone("ViT-B-32")
    assert not weights.has_weights(card)
    weights.weights_file(card).parent.mkdir(parents=True)
    weights.weights_file(card).write_bytes(b"weights")
    assert weights.has_weights(card)


def test_any_other_open_clip_model_by_name() -> None:
    card = suites.backbone("ViT-L-14-336/openai")
    assert (card.architecture, card.weights, card.image_size) == ("ViT-L-14-336", "openai", 336)
    with pytest.raises(UnknownName, match="did you mean 'ViT-B-32'"):
        suites.backbone("ViT-B-23/openai")
