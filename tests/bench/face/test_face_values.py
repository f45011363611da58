"""What the functions of `bench` hand on, and numbers that no command prints."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import bench
from bench.cards import datasets
from bench.checks import verify as verifying
from bench.face import reading
from bench.kinds.expert import Finetune
from bench.pixels import images
from bench.planning.schedule import Schedule
from bench.work import backbone
from bench.work.evaluate import Evaluator


def test_a_merge_of_whole_models_is_added_at_its_coefficient() -> None:
    """Updates (2, 0) and (0, 4) have the average (1, 2); half of it is added to (1, 1)."""
    base = {"w": torch.tensor([1.0, 1.0])}
    experts = [{"w": torch.tensor([3.0, 1.0])}, {"w": torch.tensor([1.0, 5.0])}]
    assert bench.merge(experts, "average", pretrained=base, scaling=0.5)["w"].tolist() == [1.5, 2.0]


def test_verify_repeats_the_seeds_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    recorded = SimpleNamespace(keys=lambda *given: asked.append(given) or ["key"], where="here")
    monkeypatch.setattr(verifying.Recorded, "open", lambda *given: recorded)
    monkeypatch.setattr(verifying, "verify", lambda *given, **how: asked.append((*given, how["experts"])) or [])
    assert bench.verify("att/ties", "here", seeds=[1], experts=True)["cells"] == []
    assert asked == [("att/ties", [1]), (recorded, ["key"], True)]


def test_a_number_of_seeds_and_seeds_themselves() -> None:
    for seeds, expected in ((3, {0, 1, 2}), ([4, 2], {2, 4})):
        cells = bench.plan(methods="att", operators="average", seeds=seeds)
        assert {cell.seed for cell in cells if isinstance(cell, Finetune)} == expected


def test_a_run_says_what_failed_and_what_waits_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def executed(cells: Any, *_: Any) -> Schedule:
        state = Schedule(cells)
        while (cell := state.take()) is not None:
            state.fail(cell.key, "planted") if cell.label == "att digits seed 0" else state.finish(cell.key)
        return state

    monkeypatch.setattr("bench.driver.execute.execute", executed)
    ran = bench.run(methods="att", operators="average", store=tmp_path / "store")
    assert ran.failures == {"att digits seed 0": "planted"}
    assert ran.blocked == ["att/average seed 0"]


def test_rows_are_compared_in_the_order_in_which_they_were_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading.stored, "load", lambda *_: ("rows", "cells"))
    monkeypatch.setattr(reading.comparing, "compare", lambda *given, **how: {"given": given, **how})
    assert bench.compare("a/ties", "b/ties", store="there", suite="mini8") == {
        "given": ("rows", "cells", "a/ties", "b/ties"), "suite": "mini8",
    }  # fmt: skip


def test_a_split_is_the_one_that_was_asked_for() -> None:
    base = backbone.load("mini", [datasets.load("digits")])
    for split in ("validation", "test"):
        found = bench.evaluate(base.pretrained, tasks=["digits"], split=split)["digits"]
        pictures = images.load(datasets.load("digits"), split, base.card.image_size)
        right = Evaluator(base).untouched(pictures, base.heads["digits"])
        assert found.right.tolist() == right.tolist()


def test_a_tangent_model_is_evaluated_as_one() -> None:
    base = backbone.load("mini", [datasets.load("digits")])
    generator = torch.Generator().manual_seed(0)
    vector = {n: 0.05 * torch.randn(p.shape, generator=generator) for n, p in base.pretrained.items() if p.ndim == 2}
    sets = [(images.load(datasets.load("digits"), "validation", base.card.image_size), base.heads["digits"])]
    right = {}
    for tangent in (False, True):
        found = bench.evaluate(vector, tasks=["digits"], split="validation", scaling=1.0, tangent=tangent)
        ((expected,),) = Evaluator(base).sweep(vector, (1.0,), sets, tangent=tangent)
        right[tangent] = found["digits"].right.tolist()
        assert right[tangent] == expected.tolist()
    assert right[True] != right[False]
