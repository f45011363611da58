"""Third-party experts, each in its own file format, against the module they came from."""

import copy
import hashlib
import json
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from bench.errors import BenchError, DataError
from bench.exchange import checkpoints
from bench.exchange.checkpoints import names
from tests.bench import towers

torch.manual_seed(0)
IMAGES = torch.randn(3, 3, 24, 24)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) != []
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor.float(), rtol=0, atol=0)
        assert found[name].dtype == torch.float32


def evaluates_alike(params: dict[str, Tensor], model: object) -> None:
    """The imported parameters, put into a fresh tower, answer as the original module does."""
    fresh = towers.clip(99).visual
    fresh.load_state_dict(params)
    torch.testing.assert_close(fresh(IMAGES), model.visual(IMAGES), rtol=0, atol=0)  # type: ignore[attr-defined]


def test_whole_module_pickle_of_the_reference_code(tmp_path: Path) -> None:
    model = towers.clip()
    expected = copy.deepcopy(model)
    towers.save_module(model, tmp_path / "finetuned.pt")
    expert = checkpoints.import_expert(tmp_path / "finetuned.pt", "orthoreg")
    same(expert.params, towers.visual(expected))
    evaluates_alike(expert.params, expected)
    assert (expert.format, expert.family, expert.base) == ("module", "orthoreg", None)
    assert expert.sha256 == hashlib.sha256((tmp_path / "finetuned.pt").read_bytes()).hexdigest()
    assert any("normalised accuracy" in note for note in expert.notes)


def test_plain_state_dicts_of_module_model_and_tower(tmp_path: Path) -> None:
    model = towers.clip()
    expected = towers.visual(model)
    state = model.state_dict()
    variants = {
        "whole": state,
        "encoder": {f"model.{n}": t for n, t in state.items()},
        "tower": expected,
        "trained": {"epoch": 3, "name": "run", "state_dict": {f"module.{n}": t for n, t in state.items()}},
        "half": {n: t.half() for n, t in expected.items()},
    }
    for name, content in variants.items():
        torch.save(content, tmp_path / f"{name}.pt")
        expert = checkpoints.import_expert(tmp_path / f"{name}.pt")
        if name == "half":
            expected_half = {n: t.half().float() for n, t in expected.items()}
            same(expert.params, expected_half)
        else:
            same(expert.params, expected)
    safetensors.torch.save_file({n: t.contiguous().clone() for n, t in state.items()}, tmp_path / "x.safetensors")
    same(checkpoints.import_expert(tmp_path / "x.safetensors").params, expected)


def test_linearised_state_dict_carries_both_ends(tmp_path: Path) -> None:
    base, tuned = towers.clip(0), towers.clip(1)
    ends = towers.visual(copy.deepcopy(base)), towers.visual(copy.deepcopy(tuned))
    towers.save_linearised(base, tuned, tmp_path / "linear.pt")
    expert = checkpoints.import_expert(tmp_path / "linear.pt")
    assert expert.base is not None
    same(expert.params, ends[1])
    same(expert.base, ends[0])
    assert (expert.format, expert.family) == ("linearised", "tta")
    assert expert.notes[0] == "linearised ViT-B-32: evaluate as a tangent model"
    delta = checkpoints.task_vector(expert, ends[0])
    torch.testing.assert_close(delta["proj"], ends[1]["proj"] - ends[0]["proj"])
    with pytest.raises(DataError, match="trained from other pretrained weights"):
        checkpoints.task_vector(expert, ends[1])


def test_hugging_face_names_mean_the_same_function() -> None:
    model = towers.clip()
    theirs = names.to_hf(towers.visual(model), 2)
    torch.testing.assert_close(
        towers.hugging_face_forward(theirs, IMAGES, 2), model.visual(IMAGES), rtol=1e-4, atol=1e-5
    )
    ours = names.from_hf(theirs, "x")
    same(ours, towers.visual(model))


def test_fusionbench_safetensors_lack_the_projection(tmp_path: Path) -> None:
    model = towers.clip()
    pretrained = towers.visual(towers.clip(5))
    theirs = names.to_hf(towers.visual(model), 2)
    del theirs["visual_projection.weight"]
    theirs["vision_model.embeddings.position_ids"] = torch.arange(10)[None]
    (tmp_path / "repo").mkdir()
    safetensors.torch.save_file(theirs, tmp_path / "repo/model.safetensors")
    expert = checkpoints.import_expert(tmp_path / "repo")
    expected = {n: t for n, t in towers.visual(model).items() if n != "proj"}
    same(expert.params, expected)
    assert (expert.format, expert.family) == ("hf", "fusionbench")
    delta = checkpoints.task_vector(expert, pretrained)
    assert set(delta) == set(pretrained) - {"proj"}
    name = "transformer.resblocks.1.attn.in_proj_weight"
    torch.testing.assert_close(delta[name], expected[name] - pretrained[name])


def test_whole_hugging_face_clip_drops_the_text_tower(tmp_path: Path) -> None:
    model = towers.clip()
    theirs = names.to_hf(towers.visual(model), 2)
    theirs["text_model.final_layer_norm.weight"] = torch.ones(4)
    theirs["logit_scale"] = torch.tensor(4.6)
    safetensors.torch.save_file(theirs, tmp_path / "clip.safetensors")
    expert = checkpoints.import_expert(tmp_path / "clip.safetensors")
    same(expert.params, towers.visual(model))
    assert expert.family == "hugging_face"


def test_export_and_import_are_inverse_for_both_formats(tmp_path: Path) -> None:
    import open_clip

    model = towers.clip()
    params = towers.visual(model)
    digest = checkpoints.export_open_clip(params, tmp_path / "m.safetensors", rest=model.state_dict())
    assert digest == checkpoints.file_hash(tmp_path / "m.safetensors")
    same(checkpoints.import_expert(tmp_path / "m.safetensors", sha256=digest).params, params)
    whole = towers.clip(7)
    open_clip.load_checkpoint(whole, str(tmp_path / "m.safetensors"))
    torch.testing.assert_close(whole.visual(IMAGES), model.visual(IMAGES), rtol=0, atol=0)
    checkpoints.export_hf(params, tmp_path / "hf", heads=2)
    same(checkpoints.import_expert(tmp_path / "hf").params, params)
    config = json.loads((tmp_path / "hf/config.json").read_text())
    shape = {"hidden_size": 128, "image_size": 24, "intermediate_size": 512, "num_attention_heads": 2}
    shape |= {"num_hidden_layers": 2, "patch_size": 8, "projection_dim": 48}
    assert {key: config[key] for key in shape} == shape
    assert (config["hidden_act"], config["model_type"]) == ("quick_gelu", "clip_vision_model")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hf", "m.safetensors"]


def test_export_refuses_what_it_cannot_do_well(tmp_path: Path) -> None:
    params = towers.visual(towers.clip())
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="exists"):
        checkpoints.export_hf(params, tmp_path / "there")
    with pytest.raises(DataError, match="needs the image projection"):
        checkpoints.export_hf({n: t for n, t in params.items() if n != "proj"}, tmp_path / "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        checkpoints.export_open_clip(params, tmp_path / "file/m.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "there"]


def test_a_disk_that_fills_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = towers.visual(towers.clip())

    def half(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    def half_bytes(self: Path, data: bytes) -> None:
        self.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    for export, name in ((checkpoints.export_open_clip, "m.safetensors"), (checkpoints.export_hf, "hf")):
        with pytest.raises(DataError, match=f"cannot write {tmp_path / name}: No space left on device; free space"):
            export(params, tmp_path / name)
    monkeypatch.setattr(Path, "write_bytes", half_bytes)
    with pytest.raises(DataError, match=r"v\.safetensors: No space left on device"):
        checkpoints.write_whole(tmp_path / "v.safetensors", b"whole")
    assert list(tmp_path.iterdir()) == []


def test_model_card_lists_results_and_hashes_and_escapes(tmp_path: Path) -> None:
    about = checkpoints.About(
        title="Merged <b>eight</b>\ntasks",
        architecture="ViT-B-32",
        pretrained="openai",
        recipe="att+orthoreg/ties",
        tasks=("cars", "dtd"),
        results=(("cars", 0.71234, 8041), ("d|td", 0.5, 1880)),
    )
    digest = checkpoints.export_open_clip(towers.visual(towers.clip()), tmp_path / "m.safetensors", about=about)
    text = (tmp_path / "m.safetensors.md").read_text()
    assert text.splitlines()[0] == "# Merged &lt;b>eight&lt;/b> tasks"
    assert "| cars | 71.23 | 8,041 |" in text
    assert "| d\\|td | 50.00 | 1,880 |" in text
    assert f"| m.safetensors | `{digest}` |" in text


def damaged(tmp_path: Path, change: dict[str, Tensor | None], words: str) -> None:
    params = names.to_hf(towers.visual(towers.clip()), 2)
    for name, tensor in change.items():
        if tensor is None:
            del params[name]
        else:
            params[name] = tensor
    safetensors.torch.save_file(params, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match=words) as caught:
        checkpoints.import_expert(tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)


def test_wrong_names_shapes_and_values_are_refused(tmp_path: Path) -> None:
    at = "vision_model.encoder.layers.0."
    damaged(tmp_path, {at + "self_attn.k_proj.bias": None}, "k_proj.bias.*is missing")
    damaged(tmp_path, {at + "extra.weight": torch.ones(2)}, "extra.weight is unknown")
    damaged(
        tmp_path, {at + "mlp.fc1.weight": torch.ones(512, 127)}, r"c_fc.weight is \(512, 127\) instead of \(512, 128\)"
    )
    damaged(tmp_path, {at + "layer_norm1.bias": torch.full((128,), torch.nan)}, "not finite numbers, first .*ln_1.bias")
    damaged(tmp_path, {"visual_projection.weight": torch.ones(3, 2, 1)}, "visual_projection.weight is not a matrix")
    damaged(tmp_path, {"visual_projection.weight": torch.ones(3, 2)}, r"proj is \(2, 3\) instead of \(128, 3\)")


def test_another_architecture_is_named_when_subtracting(tmp_path: Path) -> None:
    params = towers.visual(towers.clip())
    torch.save(params, tmp_path / "x.pt")
    expert = checkpoints.import_expert(tmp_path / "x.pt")
    wider = params | {"conv1.weight": torch.ones(128, 3, 16, 16)}
    with pytest.raises(
        DataError, match=r"another architecture: 1 difference\(s\), first conv1.weight is \(128, 3, 8, 8\)"
    ):
        checkpoints.task_vector(expert, wider)
    deeper = params | {"transformer.resblocks.2.ln_1.weight": torch.ones(128)}
    with pytest.raises(DataError, match=r"resblocks\.2\.ln_1\.weight is missing"):
        checkpoints.task_vector(expert, deeper)


def test_files_that_are_no_experts(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r'no image tower that bench knows: its names begin with \["a"\]'):
        checkpoints.import_expert(tmp_path / "x.pt")
    with pytest.raises(BenchError, match="did you mean 'orthoreg'"):
        checkpoints.import_expert(tmp_path / "x.pt", "orthoregg")
    with pytest.raises(DataError, match="cannot read"):
        checkpoints.import_expert(tmp_path / "none.pt")
    with pytest.raises(DataError, match="damaged or another file"):
        checkpoints.import_expert(tmp_path / "x.pt", sha256="0" * 64)
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(DataError, match="not a valid safetensors file"):
        checkpoints.import_expert(tmp_path / "x.safetensors")
    numbers = {f"model.{kind}.{i}": torch.ones(2) for kind in ("params", "params0") for i in range(38)}
    torch.save(numbers, tmp_path / "n.pt")
    with pytest.raises(DataError, match=r"has another architecture|not a linearised"):
        checkpoints.import_expert(tmp_path / "n.pt")


def test_shape_of_reads_the_real_towers_sizes() -> None:
    for shape, parameters, image in (
        (names.Shape(768, 12, 32, 50, 512, 3072), 87_849_216, 224),
        (names.Shape(768, 12, 16, 197, 512, 3072), 86_192_640, 224),
        (names.Shape(1024, 24, 14, 257, 768, 4096), 303_966_208, 224),
    ):
        wanted = names.expected(shape)
        assert sum(math.prod(size) for size in wanted.values()) == parameters
        assert shape.image_size == image
        empty = {name: torch.empty(size, device="meta") for name, size in wanted.items()}
        assert names.shape_of(empty, "x") == shape
        assert len(wanted) == 8 + 12 * shape.layers
