"""`--grid paper` from files on disk to records in the store, in each source format of the cards."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.cards.suites import Suite
from bench.ground import metrics
from bench.kinds.addition import Addition
from bench.kinds.base import Cell
from bench.kinds.expert import Finetune
from bench.kinds.negation import Negation
from bench.pixels import images
from bench.planning import grid
from bench.registry import catalogue
from bench.store import task_vectors
from bench.store.records import unpack_bits
from bench.store.store import Store
from bench.work import backbone
from tests.bench import miniature, paper

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

KNOWN = catalogue.load()


def kinds(cells: list[Cell]) -> dict[str, int]:
    return {kind: sum(cell.kind == kind for cell in cells) for kind in sorted({cell.kind for cell in cells})}


def honest(store: Store, cells: list[Cell]) -> None:
    """Rows have the sizes of the cards, bits count what rows say, and validation alone chose each coefficient."""
    for cell in cells:
        rows = store.read(cell.key).rows
        for row in rows:
            assert row["total"] == {"validation": miniature.HELD, "test": miniature.TEST}[row["split"]]
            if row["split"] == "test":
                assert unpack_bits(row["bits"], row["total"]).sum() == row["correct"]
        if isinstance(cell, Addition) and len(cell.coefficients) > 1 and rows:
            experts = [next(r for r in store.read(key).rows if r["split"] == "validation") for key in cell.experts]
            reference = {r["task"]: r["correct"] / r["total"] for r in experts}
            points: dict[float, dict[str, float]] = {}
            for row in rows:
                if row["split"] == "validation":
                    points.setdefault(row["scaling"], {})[row["task"]] = row["correct"] / row["total"]
            mean = {c: np.mean([p[t] / reference[t] for t in reference]) for c, p in points.items()}
            (chosen,) = {row["scaling"] for row in rows if row["split"] == "test"}
            assert mean[chosen] == max(mean.values())
            assert chosen == metrics.best_scaling(points, reference)


def test_all_eight_methods_from_hub_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = paper.install("hub", tmp_path, monkeypatch)
    cells = grid.plan(suite, paper.short(), KNOWN, operators=("average",))
    assert kinds(cells) == {"addition": 8, "expert": 64, "geometry": 8, "negation": 64, "zeroshot": 1}
    state, store = paper.run(suite, cells, tmp_path / "store")
    assert len(state.done) == len(cells)
    honest(store, cells)
    changed = {
        c.finetuning: task_vectors.load(store.read_vector(c.key), "")[0] for c in cells if isinstance(c, Finetune)
    }
    assert set(changed["att+orthoreg"]) == {
        f"transformer.resblocks.{i}.attn.{name}" for i in range(2) for name in ("in_proj_weight", "out_proj.weight")
    }
    minus = next(c for c in cells if isinstance(c, Negation))
    assert {row["task"] for row in store.read(minus.key).rows} == {minus.task, "imagenet"}
    # Everything is done, so the same command again opens no session.
    again, _ = paper.run(suite, cells, tmp_path / "store")
    assert (again.before, again.over) == (len(cells), True)


def test_every_operator_from_hub_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = paper.install("hub", tmp_path, monkeypatch, tasks=("mnist", "svhn", "eurosat", "dtd"))
    few = {name: {"iterations": 2} for name, facts in KNOWN.operators.items() if "iterations" in facts["grid"]}
    suite = suite.model_copy(update={"operators": few})
    every = (*KNOWN.operators, *KNOWN.composed)
    cells = grid.plan(suite, paper.short(), KNOWN, finetuning=("lora",), operators=every)
    assert kinds(cells)["addition"] == len(every)
    _, store = paper.run(suite, cells, tmp_path / "store")
    honest(store, cells)
    merged = [store.read(cell.key) for cell in cells if isinstance(cell, Addition)]
    assert [r.identity["operator"] for r in merged if "not_applicable" in r.metrics] == []


def test_the_width_of_vit_b_32_from_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block of the real width: 24 M parameters; the head is open_clip's own text features."""
    suite = paper.install("folder", tmp_path, monkeypatch, width=768, layers=1, tasks=("cars", "sun397", "resisc45"))
    chosen = paper.short(experiments=("addition", "negation"))  # geometry at this width takes as long as all the rest
    cells = grid.plan(suite, chosen, KNOWN, operators=("average",), finetuning=("nonlinear+orthoreg", "tta"))
    _, store = paper.run(suite, cells, tmp_path / "store")
    honest(store, cells)
    zero = next(cell for cell in cells if cell.kind == "zeroshot")
    right = {r["task"]: r["bits"] for r in store.read(zero.key).rows if r["split"] == "test"}
    for task in suite.tasks:
        bits = pretrained(suite, task)
        assert right[task] == bytes(np.packbits(bits)), task


def pretrained(suite: Suite, task: str) -> np.ndarray:
    """Whether a plain open_clip model with its own transform gets each test image right."""
    import open_clip
    from PIL import Image

    card = suite.card(task)
    model = backbone._create(backbone.suites.backbone("ViT-B-32")).eval()
    transform = open_clip.image_transform(224, is_train=False)
    tokenizer = open_clip.get_tokenizer(paper.ARCHITECTURE)
    test = images.load(card, "test", 224)
    with torch.no_grad():
        prompts = [[t.format(name) for t in card.templates] for name in card.classes]
        text = [model.encode_text(tokenizer(some), normalize=True).mean(dim=0) for some in prompts]
        head = torch.nn.functional.normalize(torch.stack(text), dim=1)
        pixels = torch.stack([transform(Image.fromarray(p.transpose(1, 2, 0).copy())) for p in test.pixels])
        features = model.encode_image(pixels, normalize=True)
    return ((features @ head.T).argmax(dim=1).numpy() == test.labels).astype(bool)


def test_torchvision_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import SVHN

    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    suite = paper.install("torchvision", tmp_path, monkeypatch, tasks=("cars", "mnist", "svhn"))
    cells = grid.plan(suite, paper.short(), KNOWN, operators=("iso_c",), finetuning=("att", "lora"))
    _, store = paper.run(suite, cells, tmp_path / "store")
    honest(store, cells)
