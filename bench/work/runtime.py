"""How and where cells run. Nothing here changes what is computed, so nothing here is part of a key. No torch.

On a GPU, `deterministic` asks torch for kernels that give the same bits every time; without it some reductions add in
another order from run to run. On one thread of a CPU every run gives the same bits anyway.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal

from bench.errors import BenchError, UnknownName

UNBOUNDED = 1e9
WANTED = {
    bool: "true or false",
    int: "a whole number, at least {least:g}",
    float: "a number, at least {least:g}",
    str: "a text",
    tuple: "a tuple of paths or records",
}
"""What is asked for, by type of the default, where a choice does not say it better."""


def choice(
    default: Any, says: str, *, least: float = 0, most: float = UNBOUNDED, wanted: str = "", option: str = ""
) -> Any:
    """A field of `How`.

    `says` is the help of its option. `option` names it on the command line: `--name` by default, `--runtime` for one
    value among those of `--runtime NAME=VALUE`, `-` for none of its own. Numbers lie between `least` and `most`;
    `wanted` says so in words.
    """
    about = {"says": says, "least": least, "most": most, "wanted": wanted, "option": option}
    return field(default=default, metadata=about)


def option(choice: "Field[Any]") -> str:
    """What a field of `How` is called on the command line: `--cell-timeout`, `--runtime`, or `-` for nothing."""
    return str(choice.metadata["option"]) or f"--{choice.name.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class How:
    """How cells run: everything that may be chosen and none of which is part of a key. It travels to workers as it is.

    The command line makes its options of these fields, so a new choice is one line here. BenchError in one line for a
    value out of its range.
    """

    local: bool = choice(False, "Run in this process, one cell at a time, without Ray.")
    workers: int = choice(0, "Cells at once; 0: as many as there are cores.")
    address: str = choice("", "Join a Ray cluster: auto, or HOST:PORT.")
    device: Literal["cpu", "cuda"] = choice("cpu", "Where cells compute.")
    gpu_fraction: float = choice(
        0.0, "Share of a GPU for a cell; 0: as measured by calibrate.", most=1, wanted="a number above 0, at most 1"
    )
    cell_timeout: float = choice(
        0.0, "Seconds after which a cell fails; 0: never.", wanted="seconds, or 0 for no limit"
    )
    memory_limit: float = choice(0.0, "GiB that cells may take in a process; 0: no limit.")
    """Of memory that is its own (`bench.ground.memory`)."""
    include: tuple[Any, ...] = choice((), "Files with methods of one's own, or their records.", option="-")
    threads: int = choice(1, "Threads of torch in a process.", least=1, option="-")
    batch_size: int = choice(100, "Images at once in evaluation.", least=1, option="--runtime")
    checkpointing: bool = choice(
        False, "Recompute each block in the backward pass: less memory, a third more time.", option="--runtime"
    )
    compile: bool = choice(
        False, "Let torch.compile fuse operations: minutes in every process, then faster steps.", option="--runtime"
    )
    deterministic: bool = choice(True, "On a GPU: the same bits every time.", option="--runtime")
    fast: bool = choice(True, "False, for debugging: the plain ways of docs/speed.md.", option="--runtime")
    """open_clip's own modules and torch.func in place of the hand-written tower, autograd in place of the penalty's
    closed form, every coefficient of a sweep on its own."""
    prune: bool = choice(False, "Stop at a coefficient once it cannot win.", option="--runtime")
    """The same choice and test rows, but curves with holes (`bench.work.pruning`). Tangent models have every
    coefficient from one pass and need no such thing."""
    resident: float = choice(0.25, "Share of a GPU's free memory in which images stay.", most=1, option="--runtime")
    save_minutes: float = choice(
        5.0, "Minutes between two states of a fine-tune on disk; 0: none.", most=1440, option="--runtime"
    )
    tf32: bool = choice(False, "On a GPU: products of float32 matrices read ten bits of mantissa.", option="--runtime")
    """Several times as fast. A store keeps whether it was on and refuses the other, because features move in their
    third or fourth digit."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not _fits(one, value):
                name = option(one)
                asked = f"{name} {one.name}={value}:" if name == "--runtime" else f"{_named(one)} is {value};"
                raise BenchError(f"{asked} give {_wanted(one)}")
        if "://" in self.address:
            raise BenchError(f"--address is {self.address}; give HOST:PORT of a head node, or auto on one of its nodes")
        if self.local and self.address:
            raise BenchError("--local runs here and --address on a cluster; give one of them")

    @property
    def gpu_share(self) -> float:
        """What each worker gets of a GPU: one half where nothing else was asked for or measured."""
        return self.gpu_fraction or 0.5


CHOOSABLE = tuple(one.name for one in fields(How) if option(one) == "--runtime")
"""What `bench run --runtime NAME=VALUE` sets; the others have options of their own."""


def _fits(one: "Field[Any]", value: Any) -> bool:
    if one.name == "device":
        return value in ("cpu", "cuda")
    kind = type(one.default)
    if kind in (bool, str, tuple):
        return isinstance(value, kind)
    number = isinstance(value, int | kind) and not isinstance(value, bool)
    return number and one.metadata["least"] <= value <= one.metadata["most"]


def _named(one: "Field[Any]") -> str:
    return one.name if option(one) == "-" else option(one)


def _wanted(one: "Field[Any]") -> str:
    if one.metadata["most"] < UNBOUNDED and not one.metadata["wanted"]:
        return "a number from {least:g} to {most:g}".format(**one.metadata)
    usual = "cpu or cuda" if one.name == "device" else WANTED[type(one.default)]
    return str(one.metadata["wanted"]) or usual.format(**one.metadata)


def settle(how: How) -> None:
    """Put this process's torch into the state in which cells are computed."""
    import torch

    torch.set_num_threads(how.threads)
    torch.set_float32_matmul_precision("high" if how.tf32 else "highest")
    if how.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    # With `warn_only` a GPU's attention takes its fast backward pass, whose sums change from run to run.
    torch.use_deterministic_algorithms(how.deterministic, warn_only=how.device != "cuda")
    # Filling new memory guards code that reads what it never wrote, and costs a pass over it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def settings_kept() -> Iterator[None]:
    """Torch's settings of before after a block that called `settle`: in a notebook others compute with it, too."""
    import torch

    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only, fill = torch.is_deterministic_algorithms_warn_only_enabled(), torch.utils.deterministic
    filled = fill.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        fill.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def parse(given: Iterable[str] | None) -> dict[str, Any]:
    """`["checkpointing=true", "batch_size=256"]` -> {"checkpointing": True, "batch_size": 256}; BenchError if wrong."""
    chosen: dict[str, Any] = {}
    choices = {one.name: one for one in fields(How) if one.name in CHOOSABLE}
    for text in given or ():
        name, _, value = text.partition("=")
        if name not in choices:
            raise UnknownName("run-time option", name, CHOOSABLE)
        chosen[name] = _value(choices[name], value.strip().lower())
    return chosen


def _value(one: "Field[Any]", text: str) -> Any:
    kind = type(one.default)
    try:
        value: Any = {"true": True, "false": False}[text] if kind is bool else kind(text)  # type: ignore[misc]
    except (KeyError, ValueError):
        value = None
    if not _fits(one, value):
        raise BenchError(f"--runtime {one.name}={text}: give {_wanted(one)}")
    return value
