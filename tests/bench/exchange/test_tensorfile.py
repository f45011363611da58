"""Safetensors one tensor at a time: equal to the library's reading, and one line for every damaged file."""

import json
import pickle

import pytest
import safetensors.torch
import torch

from bench.errors import BenchError, DataError
from bench.exchange.tensorfile import DTYPES, TensorFile, write

TENSORS = {
    **{f"x.{name}": torch.ones(2, 3).to(dtype) for name, dtype in DTYPES.items()},
    "scalar": torch.tensor(2.0),
    "empty": torch.zeros(0, 4),
}


def test_reads_what_the_library_wrote(tmp_path):
    safetensors.torch.save_file(TENSORS, tmp_path / "a.safetensors", {"format": "pt"})
    file = TensorFile(tmp_path / "a.safetensors")
    assert file.metadata == {"format": "pt"}
    assert set(file) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert file[name].dtype == tensor.dtype
        assert torch.equal(file[name], tensor)


def test_the_library_reads_what_is_written(tmp_path):
    path = tmp_path / "b.safetensors"
    write(path, {n: (t.dtype, tuple(t.shape)) for n, t in TENSORS.items()}, TENSORS.items(), {"format": "pt"})
    loaded = safetensors.torch.load_file(path)
    assert {n: t.dtype for n, t in loaded.items()} == {n: t.dtype for n, t in TENSORS.items()}
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())
    assert [p.name for p in tmp_path.iterdir()] == ["b.safetensors"]


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


GOOD = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
TWICE = GOOD.replace(b'{"w"', b'{"v": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, "w"')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated, 0 bytes"),
        (pickle.dumps({"w": 1}), "a pickle"),
        (b"PK\x03\x04 torch.save", "a pickle"),
        (b"plain text, longer than eight bytes", "not a safetensors file"),
        (header(GOOD)[:20], "end inside the header"),
        (header(GOOD, b"1234"), "truncated, .* bytes; copy or download it again"),
        (header(b"{nonsense"), "corrupt header"),
        (header(b"[1, 2]"), "corrupt header .not a JSON object"),
        (header(GOOD.replace(b"F32", b"F99"), bytes(8)), "corrupt header, 'w' is"),
        (header(GOOD.replace(b"[2]", b"[3]"), bytes(8)), "the size of 'w' is wrong"),
        (header(GOOD.replace(b"[2]", b'"x"'), bytes(8)), "corrupt header"),
        (header(GOOD.replace(b"[0, 8]", b"[-8, 0]"), bytes(8)), "corrupt header, 'w' is"),
        (header(GOOD.replace(b"[0, 8]", b"[0.0, 8.0]"), bytes(8)), "corrupt header, 'w' is"),
        (header(GOOD.replace(b"[0, 8]", b"[4, 12]"), bytes(12)), "'w' does not begin where the tensor before it ends"),
        (header(TWICE, bytes(8)), "'v' does not begin where the tensor before it ends"),
        (header(GOOD, bytes(9)), "1 bytes too many"),
        (header(b'{"__metadata__": {"a": 1}}'), "metadata that are not text"),
        (header(b"[" * 100_000), "nested too deeply"),
        (header(GOOD.replace(b"[2]", b"[" + b"9" * 5000 + b"]")), "corrupt header"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, content, message):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        TensorFile(path)
    assert "bad.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_cut_while_read(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        TensorFile(tmp_path / "none.safetensors")
    path = tmp_path / "cut.safetensors"
    path.write_bytes(header(GOOD, bytes(8)))
    file = TensorFile(path)
    path.write_bytes(header(GOOD, bytes(4)))
    with pytest.raises(DataError, match="truncated while it was read, at 'w'"):
        file["w"]


def test_nothing_is_left_when_writing_fails(tmp_path):
    def tensors():
        yield "w", torch.ones(2)
        raise RuntimeError("lost")

    path, layout = tmp_path / "c.safetensors", {"w": (torch.float32, (2,)), "v": (torch.float32, (2,))}
    with pytest.raises(RuntimeError, match="lost"):
        write(path, layout, tensors(), {})
    with pytest.raises(BenchError, match=r"'w' came as torch\.float64"):
        write(path, layout, [("w", torch.ones(2).double())], {})
    with pytest.raises(BenchError, match=r"cannot write .*No such file"):
        write(tmp_path / "none" / "c.safetensors", layout, tensors(), {})
    assert list(tmp_path.iterdir()) == []
