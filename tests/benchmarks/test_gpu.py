"""The parts of the GPU benchmark that need no GPU, on a tiny tower; and its one line without a device."""

from functools import partial
from pathlib import Path

import pytest
import torch
from open_clip.transformer import VisionTransformer

from bench.suites import backbone
from benchmarks import gpu
from benchmarks.images import cached, compare, draw


@pytest.fixture
def tiny(tmp_path: Path) -> gpu.Bench:
    torch.manual_seed(0)
    tower = VisionTransformer(32, 8, 64, 2, 1, 2.0, output_dim=16)
    files = draw(tmp_path, "png", 40, 36, 6)
    return gpu.prepare(tower, backbone("mini"), "cpu", files, batch=3, steps=1, workers=0)


def test_every_way_trains_and_the_reference_loop_reads_the_same_files(
    tiny: gpu.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("plain, float32", "plain, bfloat16", "orthoreg, float32", "tangent, float32")
    monkeypatch.setattr(gpu, "WAYS", {name: gpu.WAYS[name] for name in chosen})
    make = partial(VisionTransformer, 32, 8, 64, 2, 1, 2.0, output_dim=16)
    rows = gpu.training(tiny, make, {"float32": 1e12, "bfloat16": 2e12})
    assert [*rows] == [*chosen, "reference loop"]
    assert rows["plain, float32"]["times_plain"] == rows["plain, bfloat16"]["times_plain"] == 1
    assert rows["tangent, float32"]["floor_milliseconds"] / rows["plain, float32"]["floor_milliseconds"] == (
        pytest.approx(5 / 3, rel=0.02)
    )
    assert all(row["images_a_second"] > 0 for row in rows.values())
    read = gpu.Files(tiny.files, tiny.images.labels, tiny.backbone.card)
    pixels = tiny.backbone.normalise(torch.from_numpy(tiny.images.pixels.copy()))
    torch.testing.assert_close(torch.stack([read[i][0] for i in range(6)]), pixels, rtol=0, atol=1e-6)


def test_reference_steps_move_the_weights(tiny: gpu.Bench) -> None:
    module = VisionTransformer(32, 8, 64, 2, 1, 2.0, output_dim=16)
    before = module.proj.detach().clone()
    gpu.reference_steps(tiny, gpu.batches(tiny), module, 1)
    assert 0 < float((module.proj - before).abs().max()) < 1e-4


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
