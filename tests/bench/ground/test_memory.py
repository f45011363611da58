import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.ground import memory

ROOT = Path(__file__).parents[3]


def capped(code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_capped_process_is_refused_more_and_lives():
    found = capped(
        "from bench.ground import memory\nmemory.cap(0.5)\nheld = []\n"
        "try:\n    while len(held) < 100: held.append(bytearray(2**25))\n"
        "except MemoryError as error: count = len(held); del held; print(memory.exhausted(error), count)"
    )
    said, blocks = found.split()
    assert said == "True"
    assert 14 <= int(blocks) <= 16  # of 32 MiB each, within half a GiB


def test_no_cap_and_caps_that_cannot_be(monkeypatch):
    memory.cap(0)
    with pytest.raises(BenchError, match="--memory-limit is -1; give GiB"):
        memory.cap(-1)
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    with pytest.raises(BenchError, match="needs Linux, this is darwin"):
        memory.cap(2)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), True),
        (RuntimeError("shape mismatch"), False),
        (KeyError("memory"), False),
    ],
)
def test_which_errors_mean_memory(error, full):
    assert memory.exhausted(error) is full
    wrapped = ValueError("wrapped")
    wrapped.__cause__ = error
    assert memory.exhausted(wrapped) is full


def test_the_line_says_what_to_do():
    refused = RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: 8 bytes. \nmore")
    assert memory.explain(refused, 2.0, "cpu") == (
        "out of memory (can't allocate memory: 8 bytes): a process may take 2 GiB; raise --memory-limit, or use "
        "--runtime checkpointing=true"
    )
    assert "fewer --workers" in memory.explain(MemoryError(), 0, "cpu")
    cuda = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert "fewer cells on a GPU" in memory.explain(cuda, 2.0, "cuda")
