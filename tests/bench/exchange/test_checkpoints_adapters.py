"""LoRA adapters as PEFT and the OrthoReg authors store them, against the function that the adapted module computes.

The layout of PEFT's files was taken from files that PEFT 0.21.2 wrote for the tower used here; `twice` is what its
forward pass does with the pair of `out_proj`.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from bench.errors import DataError
from bench.exchange import checkpoints
from bench.exchange.checkpoints import names
from tests.bench import towers

torch.manual_seed(0)
IMAGES = torch.randn(3, 3, 24, 24)
CONFIG = {"peft_type": "LORA", "peft_version": "0.21.2", "r": 4, "lora_alpha": 6, "bias": "none", "use_dora": False}
ATTENTION = "transformer.resblocks.{}.attn"


def pair(rows: int, columns: int, rank: int = 4) -> tuple[Tensor, Tensor]:
    """B and A of an update with entries around 0.05."""
    return 0.1 * torch.randn(rows, rank), 0.1 * torch.randn(rank, columns)


def store(folder: Path, modules: dict[str, tuple[Tensor, Tensor]], **config: Any) -> Path:
    """A folder as `save_pretrained` of PEFT leaves it."""
    tensors = {}
    for module, (b, a) in modules.items():
        tensors |= {f"base_model.model.{module}.lora_A.weight": a, f"base_model.model.{module}.lora_B.weight": b}
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    return folder


def fused(prefix: str = "") -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs on both attention matrices of both blocks, as PEFT names them on open_clip's tower."""
    found = {}
    for layer in range(2):
        at = prefix + ATTENTION.format(layer)
        found |= {at: pair(384, 128), f"{at}.base_layer.out_proj": pair(128, 128)}
    return found


def adapted(base: dict[str, Tensor], delta: dict[str, Tensor]) -> Tensor:
    """What a fresh open_clip tower answers with the updated weights."""
    tower = towers.clip(99).visual
    tower.load_state_dict({n: p + delta[n] if n in delta else p for n, p in base.items()})
    with torch.no_grad():
        return tower(IMAGES)  # type: ignore[no-any-return]


@pytest.mark.parametrize("prefix", ["", "visual.", "model.visual."])
@pytest.mark.parametrize(("version", "asked", "times"), [("0.21.2", None, 2), (None, None, 2), ("0.30.0", 1, 1)])
def test_peft_on_fused_attention(
    tmp_path: Path, prefix: str, version: str | None, asked: int | None, times: int
) -> None:
    base = towers.visual(towers.clip())
    modules = fused(prefix)
    expert = checkpoints.import_expert(store(tmp_path / "a", modules, peft_version=version), out_proj=asked)
    assert (expert.format, expert.family, expert.params) == ("peft", "peft", {})
    delta = checkpoints.task_vector(expert, base)
    right = {}
    for layer in range(2):
        at = ATTENTION.format(layer)
        (b, a), (d, c) = modules[prefix + at], modules[f"{prefix}{at}.base_layer.out_proj"]
        right |= {f"{at}.in_proj_weight": 1.5 * b @ a, f"{at}.out_proj.weight": times * 1.5 * d @ c}
    assert set(delta) == set(right)
    for name, expected in right.items():
        torch.testing.assert_close(delta[name], expected, rtol=1e-5, atol=1e-6)
        b, a = expert.pairs[name]
        torch.testing.assert_close(b @ a, delta[name], rtol=0, atol=0)
    torch.testing.assert_close(adapted(base, delta), adapted(base, right), rtol=1e-4, atol=1e-5)
    assert any("twice" in note for note in expert.notes) == (times == 2)


def test_peft_on_hugging_faces_clip_with_patterns_and_ranks_of_its_own(tmp_path: Path) -> None:
    """q, k and v become one exact pair; every scale is PEFT's: alpha / sqrt(r) here, patterns for some modules."""
    base = towers.visual(towers.clip())
    theirs = names.to_hf(base, 2)
    modules: dict[str, tuple[Tensor, Tensor]] = {"visual_projection": pair(48, 128)}
    for layer in range(2):
        at = f"vision_model.encoder.layers.{layer}."
        modules |= {f"{at}self_attn.{part}_proj": pair(128, 128, 2 if part == "v" else 4) for part in "qv"}
        modules |= {f"{at}self_attn.out_proj": pair(128, 128), f"{at}mlp.fc1": pair(512, 128)}
        modules |= {f"{at}mlp.fc2": pair(128, 512)}
    patterns = {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {r"layers\.1\.mlp\.fc1": 12}}
    folder = store(tmp_path / "a", modules, use_rslora=True, **patterns)
    for module, (b, a) in modules.items():
        alpha = 12 if module.endswith("layers.1.mlp.fc1") else 6
        theirs[f"{module}.weight"] = theirs[f"{module}.weight"] + alpha / len(a) ** 0.5 * b @ a
    expert = checkpoints.import_expert(folder, "knots")
    delta = checkpoints.task_vector(expert, base)
    found = adapted(base, delta)
    torch.testing.assert_close(found, towers.hugging_face_forward(theirs, IMAGES, 2), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found, adapted(base, {}), rtol=1e-2, atol=1e-2)
    b, a = expert.pairs[ATTENTION.format(0) + ".in_proj_weight"]
    assert (tuple(b.shape), tuple(a.shape)) == ((384, 6), (6, 128))
    assert not b[128:256].any()  # nothing was trained on k
    assert any("contaminated" in note for note in expert.notes)


def save_authors(model: Any, path: Path, rank: int = 4) -> dict[str, tuple[Tensor, Tensor]]:
    """The state dict of the OrthoReg authors' LoRA encoder: pairs beside the frozen weights, text remains included."""
    state, pairs = {}, {}
    for name, tensor in model.state_dict().items():
        if name.startswith("transformer."):
            continue
        at, _, kind = name.rpartition(".")
        if kind.startswith("in_proj_"):
            name = f"{at}.lora_in_proj_layer.mlp.{kind.removeprefix('in_proj_')}"
        elif at.endswith("attn.out_proj"):
            name = f"{at}.mlp.{kind}"
        state[f"model.{name}"] = tensor.clone()
    for layer in range(2):
        at = ATTENTION.format(layer)
        for module, target, rows in (
            ("lora_in_proj_layer", "in_proj_weight", 384),
            ("out_proj", "out_proj.weight", 128),
        ):
            b, a = pairs[f"{at}.{target}"] = pair(rows, 128, rank)
            state |= {f"model.visual.{at}.{module}.lora_A": a, f"model.visual.{at}.{module}.lora_B": b}
    torch.save(state, path)
    return pairs


def test_the_orthoreg_authors_lora_encoder(tmp_path: Path) -> None:
    model = towers.clip()
    base = towers.visual(copy.deepcopy(model))
    pairs = save_authors(model, tmp_path / "loraatt_finetuned.pt")
    expert = checkpoints.import_expert(tmp_path / "loraatt_finetuned.pt", alpha=8)
    assert (expert.format, expert.family) == ("orthoreg_lora", "orthoreg")
    delta = checkpoints.task_vector(expert, base)
    assert set(delta) == set(pairs)
    for name, (b, a) in pairs.items():
        torch.testing.assert_close(delta[name], 2 * b @ a, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(adapted(base, delta), adapted(base, {n: 2 * b @ a for n, (b, a) in pairs.items()}))
    other = checkpoints.import_expert(tmp_path / "loraatt_finetuned.pt", alpha=1)
    assert other.sha256 != expert.sha256  # another alpha is another expert, and gets another key
    with pytest.raises(DataError, match="not in the file; give --lora-alpha"):
        checkpoints.import_expert(tmp_path / "loraatt_finetuned.pt")
    with pytest.raises(DataError, match="trained from other pretrained weights"):
        checkpoints.task_vector(expert, towers.visual(towers.clip(5)))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dora": ({"use_dora": True}, "use_dora = true makes it more than a low-rank update"),
    "bias": ({"bias": "lora_only"}, r'bias = "lora_only"'),
    "saved modules": ({"modules_to_save": ["visual_projection"]}, "modules_to_save"),
    "another type": ({"peft_type": "LOHA"}, "adapters of the type LORA with a lora_alpha, not 'LOHA'"),
    "start": ({"init_lora_weights": "pissa"}, "'pissa' moves the pretrained weights"),
    "rank": ({"r": 8}, "has rank 4, its adapter_config.json says 8"),
    "new": ({"peft_version": "0.25.0"}, "made by PEFT 0.25.0.*--peft-out-proj 1 or 2"),
    "version": ({"peft_version": "main"}, "made by PEFT main"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_configurations_that_mean_more_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        checkpoints.import_expert(store(tmp_path / "a", fused(), **change))
    assert "\n" not in str(caught.value)


AT = ATTENTION.format(0)
STRANGE: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "out_proj alone": ({f"{AT}.out_proj": (128, 128)}, "never applies a pair on .*out_proj alone"),
    "text": ({f"visual.{AT}": (384, 128), AT: (96, 32)}, "adapts the text tower"),
    "hugging face's text": ({"text_model.encoder.layers.0.self_attn.q_proj": (32, 32)}, "adapts the text tower"),
    "head": ({"classifier": (10, 128)}, "adapts classifier, which is no matrix of a CLIP image tower"),
}


@pytest.mark.parametrize(("modules", "words"), STRANGE.values(), ids=STRANGE)
def test_modules_that_cannot_be_mapped_are_refused(
    tmp_path: Path, modules: dict[str, tuple[int, int]], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        checkpoints.import_expert(store(tmp_path / "a", {m: pair(*size) for m, size in modules.items()}))


def test_tensors_that_are_no_factors_of_a_matrix_are_refused(tmp_path: Path) -> None:
    folder = store(tmp_path / "a", fused())
    file = folder / "adapter_model.safetensors"
    good = safetensors.torch.load_file(file)
    at = f"base_model.model.{AT}"
    for change, words in (
        ({f"{at}.lora_magnitude_vector": torch.ones(384)}, "lora_magnitude_vector .* is not a factor"),
        ({"base_model.model.conv1.lora_A.weight": torch.ones(4, 3, 8, 8)}, r"conv1.*is not a factor"),
        ({f"{at}.lora_B.weight": torch.ones(384, 3)}, "have ranks 4 and 3"),
        ({f"{at}.lora_B.weight": torch.full((384, 4), torch.nan)}, "not finite numbers, first .*in_proj_weight"),
    ):
        safetensors.torch.save_file(good | change, file)
        with pytest.raises(DataError, match=words):
            checkpoints.import_expert(folder)
    safetensors.torch.save_file({n: t for n, t in good.items() if n != f"{at}.lora_B.weight"}, file)
    with pytest.raises(DataError, match="has lora_A alone"):
        checkpoints.import_expert(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        checkpoints.import_expert(folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(DataError, match=r"put its adapter_config\.json beside it"):
        checkpoints.import_expert(folder)


def test_an_adapter_of_another_architecture_is_named(tmp_path: Path) -> None:
    base = towers.visual(towers.clip())
    wide = checkpoints.import_expert(store(tmp_path / "wide", {AT: pair(768, 256)}))
    with pytest.raises(DataError, match=r"in_proj_weight is \(768, 256\) instead of \(384, 128\)"):
        checkpoints.task_vector(wide, base)
    deep = checkpoints.import_expert(store(tmp_path / "deep", {ATTENTION.format(7): pair(384, 128)}))
    with pytest.raises(DataError, match=r"adapts transformer\.resblocks\.7.*another architecture"):
        checkpoints.task_vector(deep, base)


def test_options_that_do_not_belong_to_a_file_are_refused(tmp_path: Path) -> None:
    torch.save(towers.visual(towers.clip()), tmp_path / "x.pt")
    with pytest.raises(DataError, match="is no LoRA adapter; leave --lora-alpha"):
        checkpoints.import_expert(tmp_path / "x.pt", alpha=8)
    with pytest.raises(DataError, match=r"alpha is in its adapter_config\.json"):
        checkpoints.import_expert(store(tmp_path / "a", fused()), alpha=8)
    plain = store(tmp_path / "b", {f"{AT.removesuffix('.attn')}.mlp.c_fc": pair(512, 128)})
    with pytest.raises(DataError, match="leave --peft-out-proj out"):
        checkpoints.import_expert(plain, out_proj=1)
