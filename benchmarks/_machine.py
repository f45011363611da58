"""What this machine can do, measured, and ways timed in turns: shared by the benchmarks of one run."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.ground.versions import commit

RESULTS = Path(__file__).parent / "results"

Work = Callable[[], object]


def peak_flops(dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second of a 1024-cubed product, the best of twelve."""
    x, y = torch.randn(1024, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
    return 2 * 1024**3 / min(seconds(lambda: x @ y) for _ in range(12))


def peak_bytes(size: int = 1 << 28) -> float:
    """Bytes a second of reading memory once (a sum over `size` bytes, more than any cache), the best of five."""
    x: Tensor = torch.ones(size // 4)
    return size / min(seconds(lambda: x.sum()) for _ in range(5))


def seconds(work: Work) -> float:
    """Processor time: what other programs take does not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def turns(ways: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of every way in every round; the ways take turns, so that load on the machine hits all of them."""
    for work in ways.values():
        work()  # kernels are chosen, code is loaded
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            found[name].append(seconds(work))
    return found


def row(ours: list[float], theirs: list[float], floor: float, **more: Any) -> dict[str, Any]:
    """Medians, the median of the rounds' ratios, and the distance from the floor (seconds that the hardware needs)."""
    return {
        "seconds": digits(median(ours)),
        "reference_seconds": digits(median(theirs)),
        "times_faster": digits(median(b / a for a, b in zip(ours, theirs, strict=True))),
        "floor_seconds": digits(floor),
        "times_floor": digits(median(ours) / floor),
    } | more


def digits(x: float) -> float:
    """Three significant digits."""
    return float(f"{x:.3g}")


def setting(**more: Any) -> dict[str, Any]:
    """Where and with what this ran."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit(),
    } | more


def write(path: Path, where: dict[str, Any], rows: dict[str, Any]) -> None:
    """The results so far: called after every row, so that a run cut short is not lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"setting": where, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def show(name: str, found: Mapping[str, Any]) -> None:
    """One line."""
    print(f"{name:44s}", *(f"{key}={value}" for key, value in found.items()), flush=True)
