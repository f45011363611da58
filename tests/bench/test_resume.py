import pytest
import torch
from torch.testing import assert_close

from bench.errors import BenchError
from bench.resume import FileCheckpoint

STATE = {"step": torch.tensor(4), "leaf/w": torch.arange(6.0).view(2, 3).T, "losses": torch.tensor([1.5, 0.0])}


def test_what_is_saved_is_loaded_and_replaced_as_a_whole(tmp_path):
    checkpoint = FileCheckpoint(tmp_path / "deep" / "key.safetensors", every=4)
    assert checkpoint.load() is None
    checkpoint.save(STATE)
    assert_close(checkpoint.load(), STATE, rtol=0, atol=0)
    checkpoint.save({"step": torch.tensor(8)})
    assert_close(checkpoint.load(), {"step": torch.tensor(8)}, rtol=0, atol=0)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["key.safetensors"]
    checkpoint.discard()
    assert checkpoint.load() is None
    checkpoint.discard()


def test_a_damaged_file_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "key.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(BenchError, match=r"key\.safetensors cannot be read .*; delete it to start again"):
        FileCheckpoint(path).load()


def test_a_failed_write_keeps_the_last_state(tmp_path, monkeypatch):
    checkpoint = FileCheckpoint(tmp_path / "key.safetensors")
    checkpoint.save(STATE)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.resume.os.fsync", full)
    with pytest.raises(BenchError, match=r"No space left on device.*free some space"):
        checkpoint.save({"step": torch.tensor(8)})
    assert_close(checkpoint.load(), STATE, rtol=0, atol=0)
    assert len(list(tmp_path.iterdir())) == 1


def test_never_is_refused(tmp_path):
    with pytest.raises(BenchError, match="every 0 steps is impossible"):
        FileCheckpoint(tmp_path / "key", every=0)
