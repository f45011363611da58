"""The shipped weights: a whole open_clip model, refused when damaged."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from bench.errors import DataError
from bench.pixels.mini8.assets import CONFIG, WEIGHTS, fingerprint, load_mini, read_mini, save_mini


def test_the_file_is_small_and_says_how_it_was_made() -> None:
    assert WEIGHTS.stat().st_size <= 8_000_000
    tensors, header = read_mini()
    assert fingerprint(tensors) == header["sha256"]
    assert header["config"] == json.loads(CONFIG.read_text())
    assert {"seed", "samples", "pictures", "naming"} <= set(header["recipe"])


def test_loads_into_open_clip_and_an_unknown_word_is_harmless() -> None:
    model_module = pytest.importorskip("open_clip.model")
    config = json.loads(CONFIG.read_text())
    model = model_module.CLIP(**config)
    model.load_state_dict(load_mini())  # strict: every parameter is there
    model.eval()
    tokens = torch.zeros(2, config["text_cfg"]["context_length"], dtype=torch.int64)
    tokens[:, 0], tokens[:, 2] = 49406, 49407
    tokens[1, 1] = 31337  # a word that no caption has
    with torch.no_grad():
        words = model.encode_text(tokens, normalize=True)
        images = model.encode_image(torch.zeros(2, 3, 32, 32), normalize=True)
    assert words.isfinite().all()
    assert_close(images.norm(dim=-1), torch.ones(2))


def test_rows_not_stored_are_zero(tmp_path: Path) -> None:
    state = {"token_embedding.weight": torch.randn(49408, 4), "logit_scale": torch.tensor(1.5)}
    save_mini(state, torch.tensor([3, 7]), {"recipe": "r"}, tmp_path / "m.safetensors")
    loaded = load_mini(tmp_path / "m.safetensors")
    embedding = loaded["token_embedding.weight"]
    assert_close(embedding[[3, 7]], state["token_embedding.weight"][[3, 7]].half().float())
    assert embedding.abs().sum(dim=1).nonzero().flatten().tolist() == [3, 7]
    assert_close(loaded["logit_scale"], torch.tensor(1.5))


def test_damage_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "mini.safetensors"
    good = bytearray(WEIGHTS.read_bytes())
    good[-1] ^= 64
    path.write_bytes(good)
    with pytest.raises(DataError, match=r"mini\.safetensors is damaged .*git checkout"):
        load_mini(path)
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"mini\.safetensors cannot be read"):
        load_mini(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_mini(tmp_path / "absent.safetensors")
