import pytest
import torch
from torch.testing import assert_close

from bench.errors import BenchError
from bench.work.resume import FileCheckpoint

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

    monkeypatch.setattr("bench.ground.atomic.os.fsync", full)
    with pytest.raises(BenchError, match=r"No space left on device.*free some space"):
        checkpoint.save({"step": torch.tensor(8)})
    assert_close(checkpoint.load(), STATE, rtol=0, atol=0)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_state_is_written_only_so_often(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("bench.work.resume.time.monotonic", lambda: now[0])
    monkeypatch.setattr("bench.work.resume.time.process_time", lambda: now[0] / 2)
    checkpoint = FileCheckpoint(tmp_path / "key", seconds=60)
    written = []
    for passed, step in ((59.0, 1), (1.0, 2), (59.0, 3), (2.0, 4)):
        now[0] += passed
        checkpoint.save({"step": torch.tensor(step)})
        written.append(int(FileCheckpoint(tmp_path / "key").load()["step"]) if checkpoint.path.exists() else 0)
    assert written == [0, 2, 2, 4]
    again = FileCheckpoint(tmp_path / "key", seconds=60)
    assert (again.resumed_at, again.before) == (0, (0.0, 0.0))
    again.load()
    assert (again.resumed_at, again.before) == (4, (121.0, 60.5))
    now[0] += 100
    again.save({"step": torch.tensor(5)})
    third = FileCheckpoint(tmp_path / "key")
    third.load()
    assert (third.resumed_at, third.before) == (5, (221.0, 110.5))


def test_a_state_of_other_code_is_passed_over(tmp_path):
    path = tmp_path / "key"
    FileCheckpoint(path, made_by="bench a").save({"step": torch.tensor(4)})
    other = FileCheckpoint(path, made_by="bench b")
    assert other.load() is None
    assert other.resumed_at == 0
    assert int(FileCheckpoint(path, made_by="bench a").load()["step"]) == 4
    other.save({"step": torch.tensor(1)})
    assert FileCheckpoint(path, made_by="bench a").load() is None


def test_a_state_that_cannot_be_removed_is_no_error(tmp_path):
    (tmp_path / "key").mkdir()
    FileCheckpoint(tmp_path / "key").discard()
    assert (tmp_path / "key").is_dir()


def test_never_is_refused(tmp_path):
    with pytest.raises(BenchError, match="every 0 steps is impossible"):
        FileCheckpoint(tmp_path / "key", every=0)
