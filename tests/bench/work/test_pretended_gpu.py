"""Cells on a pretended GPU: no tensor of the CPU meets one of the device, and the results are the CPU's."""

import dataclasses
from pathlib import Path

import pytest
import torch

from bench.cards import suites
from bench.cards.datasets import DatasetCard, Split
from bench.kinds.base import Cell
from bench.kinds.session import Session
from bench.pixels import images
from bench.pixels.images import Images
from bench.planning import grid
from bench.registry import catalogue
from bench.store.records import Record
from bench.store.store import Store
from bench.work import inputs
from bench.work.runtime import How
from tests.bench.pretend import GPU, gpu

SHORT = (("steps", 2), ("warmup_steps", 1), ("batch_size", 4), ("strength", 0.1))
IMAGES = 24
"""Of each split."""

KNOWN = catalogue.load()
MODELS = ("regmean", "regmean_pp", "fisher", "adamerging_layer", "adamerging_pp_task")
"""Operators that ask the model, besides one that does not."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """mini8 with two tasks, few images, and two iterations where an operator iterates."""
    load, whole = images.load, suites.load("mini8")

    def some(card: DatasetCard, split: Split, size: int) -> Images:
        found = load(card, split, size)
        return Images(found.pixels[:IMAGES], found.labels[:IMAGES])

    few = {name: {"iterations": 2} for name, facts in KNOWN.operators.items() if "iterations" in facts["grid"]}
    suite = whole.model_copy(update={"tasks": whole.tasks[:2], "operators": few})
    monkeypatch.setattr("bench.kinds.session.images.load", some)
    monkeypatch.setattr(suites, "load", lambda name: suite)
    monkeypatch.setattr(inputs, "IMAGES", 3)


def plan(method: str, *, experiments: tuple[str, ...] = ("addition", "negation", "geometry")) -> list[Cell]:
    chosen = dataclasses.replace(grid.grid("all"), recipe=SHORT, experiments=experiments)
    return grid.plan(suites.load("mini8"), chosen, KNOWN, finetuning=(method,), operators=("ties", *MODELS))


def run(cells: list[Cell], folder: Path, device: str) -> list[Record]:
    how = How()
    object.__setattr__(how, "device", device)  # one that nobody could ask for
    session = Session(how, Store(folder))
    for cell in cells:
        outcome = session.attempt(cell)
        assert outcome.status == "done", f"{cell.label}: {outcome.error}"
    return list(session.store.read_all([cell.key for cell in cells]))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["nonlinear+orthoreg", "tta", pytest.param("lora+orthoreg", marks=pytest.mark.slow)])
def test_every_kind_of_cell_computes_where_it_should(method: str, tmp_path: Path, small: None) -> None:
    cells = plan(method)
    with gpu():
        there = run(cells, tmp_path / "gpu", GPU)
    here = run(cells, tmp_path / "cpu", "cpu")
    for one, other in zip(here, there, strict=True):
        assert len(one.rows) == len(other.rows) > 0 or one.identity["kind"] == "geometry"
        for mine, theirs in zip(one.rows, other.rows, strict=True):
            # Attention is written out on the pretended device: two logits that lie close together may change places.
            assert abs(mine["correct"] - theirs["correct"]) <= 1
        for name in ("loss", "penalty", "update_norm", "merged_norm"):
            if name in one.metrics:
                assert other.metrics[name] == pytest.approx(one.metrics[name], rel=1e-3), (one.identity, name)


@pytest.mark.slow
def test_disentanglement_and_post_hoc_models(tmp_path: Path, small: None) -> None:
    cells = plan("att", experiments=("disentangle", "posthoc"))
    cells = [c for c in cells if c.kind in ("expert", "disentangle") or "ties" in c.label]
    assert {c.kind for c in cells} == {"expert", "disentangle", "posthoc"}
    with gpu():
        run(cells, tmp_path, GPU)


def test_the_pretended_gpu_refuses_what_a_gpu_refuses() -> None:
    with gpu():
        there = torch.ones(3, device=GPU)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="GPU"):
            there.numpy()
        assert (there + torch.tensor(1.0)).cpu().tolist() == [2.0, 2.0, 2.0]
