"""The paper's suite on a machine with nothing: tiny copies of its data, a small random tower under the real name.

`install` makes `vision8`, its cards and its backbones mean the miniature until the test ends; everything else, from the
files on disk to the store, is what a real run uses. Images are 224 px and patches 32 px as in ViT-B-32.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from bench.cards import datasets, suites
from bench.cards.suites import BackboneCard, Suite
from bench.driver import execute
from bench.kinds.base import Cell
from bench.planning import preflight
from bench.planning.grid import Grid, grid
from bench.planning.schedule import Schedule
from bench.store.store import Store
from bench.work import weights
from bench.work.runtime import How
from tests.bench import miniature

ARCHITECTURE = "miniature-ViT-B-32-quickgelu"
SHORT = (("steps", 15), ("warmup_steps", 1), ("batch_size", 4), ("lr", 1e-2), ("strength", 0.01))
TEMPLATES = 2
"""Prompts of each class that stay: 80 for each of 1,000 classes are no work for a test."""


def install(
    kind: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    width: int = 64,
    layers: int = 2,
    tasks: Sequence[str] = (),
) -> Suite:
    """Put data of one source format and random weights below `root`; returns the suite.

    `tasks` replaces the eight and ImageNet; its last is the control.
    """
    for name, folder in (("BENCH_CACHE", "cache"), ("BENCH_DATA", "data"), ("HF_HOME", "hub"), ("HF_HUB_CACHE", "hub")):
        monkeypatch.setenv(name, str(root / folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Two classes with one picture each: so little training must still give experts that get something right.
    monkeypatch.setattr(miniature, "label", lambda name, row: row % 2)
    monkeypatch.setattr(miniature, "_seed", lambda part, row: row % 2)
    monkeypatch.setattr(miniature, "KINDS", {kind: tuple(tasks) or miniature.KINDS[kind]})
    made = miniature.write(kind, root / "data")
    small = {n: c.model_copy(update={"templates": c.templates[:TEMPLATES]}) for n, c in made.items()}
    real = datasets.load
    monkeypatch.setattr(datasets, "load", lambda name: small.get(name) or real(name))
    card = backbone(root, width, layers)
    monkeypatch.setattr(suites, "_backbones", lambda: {card.name: card})
    whole = suites.load("vision8")
    *left, control = small
    suite = whole.model_copy(update={"backbones": (card.name,), "tasks": tuple(left), "control": control})
    monkeypatch.setattr(suites, "load", lambda name: suite)
    return suite


def backbone(root: Path, width: int, layers: int) -> BackboneCard:
    """A random QuickGELU ViT with patches of 32 px, in the place where a user would put downloaded weights."""
    import open_clip
    import safetensors.torch

    config = {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": layers, "width": width, "head_width": 32, "patch_size": 32},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    root.mkdir(exist_ok=True)
    (root / f"{ARCHITECTURE}.json").write_text(json.dumps(config))
    open_clip.add_model_config(root / f"{ARCHITECTURE}.json")
    card = BackboneCard(name="ViT-B-32", architecture=ARCHITECTURE, weights="openai", image_size=224)
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE, precision="fp32", load_weights=False)
    path = weights.weights_file(card)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({n: t.contiguous() for n, t in model.state_dict().items()}, path)
    return card


def short(name: str = "paper", **changes: object) -> Grid:
    """A grid with fifteen steps of four images, large ones."""
    return dataclasses.replace(grid(name), recipe=SHORT, **changes)  # type: ignore[arg-type]


def run(suite: Suite, cells: list[Cell], store: Path) -> tuple[Schedule, Store]:
    """What `bench run --local` does after the command line is read; fails with the first cell that fails."""
    preflight.require(suite, cells)
    opened = Store(store)
    state = execute.schedule(cells, opened)
    how = How(local=True)
    execute.run(state, opened, partial(execute.open_session, opened.address, how), how)
    assert state.failed == {}
    assert state.blocked == {}
    return state, opened
