"""How and where cells run. Nothing here changes what is computed, so nothing here is part of a key. No torch.

On a GPU, `deterministic` asks torch for kernels that give the same bits every time; without it some reductions add in
another order from run to run. On one thread of a CPU every run gives the same bits anyway.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from bench.errors import BenchError, UnknownName

CHOOSABLE = (
    "batch_size",
    "checkpointing",
    "compile",
    "deterministic",
    "fast",
    "prune",
    "resident",
    "save_minutes",
    "tf32",
)
"""What `bench run --runtime NAME=VALUE` sets; the others have options of their own."""


MOST = {"save_minutes": 1440}
"""The largest value of a number, where it is not 1."""


@dataclass(frozen=True)
class Runtime:
    """Run-time choices, as plain values that travel to workers."""

    store: str
    device: str = "cpu"
    threads: int = 1
    include: tuple[str, ...] = ()
    gpu_fraction: float = 0.0
    """Share of its GPU's memory that a process may take; 0: as much as there is."""
    memory_limit: float = 0.0
    """GiB that cells may take in a process, see `bench.ground.memory`; 0: as much as there is."""
    batch_size: int = 100
    """Images at once in evaluation."""
    fast: bool = True
    """False, for debugging: open_clip's own modules and torch.func in place of the hand-written tower, autograd in
    place of the penalty's closed form, every coefficient of a sweep on its own. See docs/speed.md."""
    deterministic: bool = True
    tf32: bool = False
    """On a GPU: products of float32 matrices read ten bits of each mantissa, several times as fast. A store keeps
    whether it was on and refuses the other, because features move in their third or fourth digit."""
    compile: bool = False
    """Let torch.compile fuse the tower's operations: minutes of compiling in every process, then faster steps."""
    checkpointing: bool = False
    """Recompute each block in the backward pass: less memory, about a third more time."""
    prune: bool = False
    """Stop at a coefficient of a validation sweep once it cannot win (`bench.work.pruning`): the same choice and test
    rows, but curves with holes. Tangent models have every coefficient from one pass and need no such thing."""
    resident: float = 0.25
    """Share of the free memory of a GPU in which uint8 images may stay, so that they travel to it once."""
    save_minutes: float = 5.0
    """Minutes between two states of a fine-tune on disk, from which it goes on after an interruption; 0: none."""


def settle(runtime: Runtime) -> None:
    """Put this process's torch into the state in which cells are computed."""
    import torch

    torch.set_num_threads(runtime.threads)
    torch.set_float32_matmul_precision("high" if runtime.tf32 else "highest")
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    # With `warn_only` a GPU's attention takes its fast backward pass, whose sums change from run to run.
    torch.use_deterministic_algorithms(runtime.deterministic, warn_only=runtime.device != "cuda")
    # Filling new memory guards code that reads what it never wrote, and costs a pass over it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def parse(given: Iterable[str] | None) -> dict[str, Any]:
    """`["checkpointing=true", "batch_size=256"]` -> {"checkpointing": True, "batch_size": 256}; BenchError if wrong."""
    found: dict[str, Any] = {}
    kinds = {f.name: type(f.default) for f in fields(Runtime)}
    for text in given or ():
        name, _, value = text.partition("=")
        if name not in CHOOSABLE:
            raise UnknownName("run-time option", name, CHOOSABLE)
        found[name] = _value(name, value.strip().lower(), kinds[name])
    return found


def _value(name: str, text: str, kind: type) -> Any:
    if kind is bool and text in ("true", "false"):
        return text == "true"
    try:
        if kind is int and int(text) >= 1:
            return int(text)
        if kind is float and 0 <= float(text) <= MOST.get(name, 1):
            return float(text)
    except ValueError:
        pass
    wanted = {bool: "true or false", int: "a whole number, at least 1"}
    wanted[float] = f"a number from 0 to {MOST.get(name, 1)}"
    raise BenchError(f"--runtime {name}={text}: give {wanted[kind]}")
