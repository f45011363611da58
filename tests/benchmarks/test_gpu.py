"""The parts of the GPU benchmark that need no GPU, on a tiny tower; and its one line without a device."""

from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch._dynamo.backends.debugging import aot_eager

from bench.cards.suites import backbone
from benchmarks import _field as field
from benchmarks import gpu
from benchmarks.images import cached, compare, draw
from tests.bench.pretend import GPU
from tests.bench.pretend import gpu as pretended


@pytest.fixture
def tiny(tmp_path: Path) -> gpu.Bench:
    torch.manual_seed(0)
    files = draw(tmp_path, "png", 40, 36, 6)
    return gpu.prepare(make(), backbone("mini"), "cpu", files, batch=3, steps=1, workers=0)


def make() -> VisionTransformer:
    return VisionTransformer(32, 8, 64, 2, 1, 2.0, output_dim=16)


def test_every_way_trains_and_the_reference_loop_reads_the_same_files(tiny: gpu.Bench) -> None:
    rows = gpu.training(tiny, make, {"float32": 1e12, "bfloat16": 2e12})
    assert [*rows] == [*gpu.WAYS, "reference loop"]
    assert rows["plain, float32"]["times_plain"] == rows["plain, bfloat16"]["times_plain"] == 1
    assert rows["tangent, float32"]["floor_milliseconds"] / rows["plain, float32"]["floor_milliseconds"] == (
        pytest.approx(5 / 3, rel=0.02)
    )
    assert all(row["images_a_second"] > 0 for row in rows.values())
    assert not torch.are_deterministic_algorithms_enabled()
    pixels = tiny.backbone.normalise(torch.from_numpy(tiny.images.pixels.copy()))
    read, _ = next(field.in_order(tiny.read, 6, 0, tiny.device))
    torch.testing.assert_close(read, pixels, rtol=0, atol=1e-6)


def test_nothing_of_ours_leaves_a_pretended_gpu(tmp_path: Path) -> None:
    files = draw(tmp_path, "png", 40, 36, 6)
    with pretended():
        bench = gpu.prepare(make(), backbone("mini"), GPU, files, batch=3, steps=1, workers=0)
        for way in gpu.WAYS:
            gpu.ours(bench, way, 2)
        field.steps(field.batches(bench.read, 3, 0, bench.device), make().to(GPU), bench.head, 1)


def test_reference_steps_move_the_weights(tiny: gpu.Bench) -> None:
    module = make()
    before = module.proj.detach().clone()
    found = field.batches(tiny.read, tiny.batch, 0, tiny.device)
    field.steps(found, module, tiny.head, 3)
    assert 0 < float((module.proj.detach() - before).abs().max()) < 1e-4


@pytest.mark.slow
def test_compiled_steps_are_one_graph_and_give_the_same_answers(
    tiny: gpu.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated as for a GPU, without the compiler behind: that one needs no test of ours."""
    traced = []

    def traces(graph: Any, inputs: Any) -> Any:
        traced.append(graph)
        return aot_eager(graph, inputs)

    monkeypatch.setattr(gpu, "COMPILED", {"compiled": {"backend": traces, "fullgraph": True}})
    rows = gpu.compiling(tiny, {"plain, float32": {"milliseconds": 1.0}}, ("plain, float32",))
    assert rows["evaluation, compiled"]["answers_that_differ"] == 0
    assert [*rows] == ["plain, float32, compiled", "evaluation, compiled"]
    assert len(traced) >= 2  # a step and an evaluation
    assert tiny.backbone.tower._features is gpu.vit.features


def test_sweep_and_rebuilt_models_give_the_same_answers(tiny: gpu.Bench, tmp_path: Path) -> None:
    rows = gpu.sweeping(tiny, tmp_path)
    assert rows["sweep"]["answers_that_differ"] == 0
    assert {"sweep", "sweep, tangent"} == set(rows)


def test_without_a_device_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu"])
    assert gpu.main() == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "no CUDA device" in said.err


def test_the_cache_holds_what_the_pipeline_computes(tmp_path: Path) -> None:
    row = compare("jpeg", 60, 48, 3, 1, bandwidth=1e10)
    assert row["largest_difference"] < 0.01
    assert cached(draw(tmp_path, "jpeg", 60, 48, 2), tmp_path, 32).shape == (2, 3, 32, 32)
