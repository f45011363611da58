"""Merging operators: time and memory against plain references (and mergekit where installed), as ratios of one run.

    python -m benchmarks.merging [--layers 2] [--spectral-width 512] [--only ties,dare]    4 minutes on one core, no GPU

Eight random task vectors in the shapes of a ViT-B-32 tower, `--layers` of its 12 blocks. Spectral operators get one
block of `--spectral-width` (768 is the real one and takes twice as long as all the rest); cost is linear in blocks.
Reference and operator take turns; times are process-CPU seconds, `times_faster` is the median over the rounds of
reference / operator. `extra_models` is the growth of resident memory while merging, the result included, in units of
one model (Linux only). `difference` is the relative L2 distance of the two results, to show that the same thing was
computed (null where it is not: random operators, and mergekit's, which rescale and rank otherwise).
Floors, measured in the same run: reading every byte once; for spectral operators the eigendecompositions that their
formula asks for, on the smaller side (`wudi` iterates and has none).
"""

import argparse
import ctypes
import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks._references import ELEMENTWISE, SPECTRAL
from methods.linalg import SvdCache
from methods.merging import MERGING
from methods.vectors import TaskVector, generator

RESULTS = Path(__file__).parent / "results" / "merging.json"
TASKS, WIDTH = 8, 768
WUDI_STEPS = 5  # of 300, for both sides: cost is linear in steps
DECOMPOSITIONS = {
    "tsv_m": TASKS + 2, "iso_c": 1, "iso_cts": TASKS + 3, "cart": TASKS, "star": TASKS, "dc_merge": TASKS + 2,
}  # fmt: skip
"""Eigendecompositions of a Gram matrix that an operator's formula asks for, for each matrix."""
SHARING = ("tsv_m", "star", "dc_merge", "iso_c", "iso_cts")  # what decomposes the same matrices


def shapes(layers: int, width: int, outside: bool) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of `layers` blocks, and of what surrounds them."""
    found: dict[str, tuple[int, ...]] = {}
    for i in range(layers):
        at = f"transformer.resblocks.{i}."
        found |= {
            at + "ln_1.weight": (width,),
            at + "ln_1.bias": (width,),
            at + "attn.in_proj_weight": (3 * width, width),
            at + "attn.in_proj_bias": (3 * width,),
            at + "attn.out_proj.weight": (width, width),
            at + "attn.out_proj.bias": (width,),
            at + "ln_2.weight": (width,),
            at + "ln_2.bias": (width,),
            at + "mlp.c_fc.weight": (4 * width, width),
            at + "mlp.c_fc.bias": (4 * width,),
            at + "mlp.c_proj.weight": (width, 4 * width),
            at + "mlp.c_proj.bias": (width,),
        }
    if outside:
        found |= {"class_embedding": (width,), "positional_embedding": (50, width), "conv1.weight": (width, 3, 32, 32)}
        found |= {
            "ln_pre.weight": (width,),
            "ln_pre.bias": (width,),
            "ln_post.weight": (width,),
            "ln_post.bias": (width,),
        }
        found |= {"proj": (width, 512)}
    return found


def vectors(layout: dict[str, tuple[int, ...]]) -> list[TaskVector]:
    """Random task vectors of the size fine-tuning gives, with a part that the tasks share."""
    shared = {name: torch.randn(shape, generator=generator(0, name)) for name, shape in layout.items()}
    return [
        {n: 1e-3 * (torch.randn(s, generator=generator(1, t, n)) + 0.5 * shared[n]) for n, s in layout.items()}
        for t in range(TASKS)
    ]


def resident(field: str) -> int | None:
    """VmRSS or VmHWM of this process in bytes, None where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(work: Callable[[], Any]) -> tuple[float, int | None, Any]:
    """(CPU seconds, growth of the resident peak in bytes, result)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # else freed memory of the last row hides what this one takes
    before = resident("VmRSS")
    if before is not None:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    start = time.process_time()
    result = work()
    seconds = time.process_time() - start
    peak = resident("VmHWM")
    return seconds, None if before is None or peak is None else max(peak - before, 0), result


def difference(left: Any, right: Any) -> float:
    """Relative L2 distance of two merged vectors (or lists of them)."""
    pairs = list(zip(left, right, strict=True)) if isinstance(left, list) else [(left, right)]
    gap = sum(float((a[n].double() - b[n].double()).square().sum()) for a, b in pairs for n in a)
    size = sum(float(b[n].double().square().sum()) for _, b in pairs for n in b)
    return (gap / size) ** 0.5


def compare(name: str, experts: list[TaskVector], reference: Callable[..., Any], rounds: int) -> dict[str, Any]:
    """One row: the operator at its defaults against a reference."""
    operator = MERGING[name]
    options = {"iterations": WUDI_STEPS} if name == "wudi" else {}
    model = sum(x.numel() * x.element_size() for x in experts[0].values())
    ours, theirs, memory, other = [], [], [], []
    gap = None
    for _ in range(rounds):
        seconds, peak, result = measure(lambda: operator.merge(experts, **options))
        other_seconds, other_peak, expected = measure(lambda: reference(experts, **options))
        ours.append(seconds)
        theirs.append(other_seconds)
        memory.append(peak)
        other.append(other_peak)
        gap = None if operator.random else difference(result, expected)
        del result, expected
    return {
        "seconds": round(median(ours), 4),
        "reference_seconds": round(median(theirs), 4),
        "times_faster": round(median(b / a for a, b in zip(ours, theirs, strict=True)), 2),
        "extra_models": largest(memory, model),
        "reference_extra_models": largest(other, model),
        "difference": gap,
    }


def largest(peaks: list[int | None], model: int) -> float | None:
    """The largest of the peaks in models, None where they could not be read."""
    known = [peak for peak in peaks if peak is not None]
    return round(max(known) / model, 2) if known else None


def decompositions(block: dict[str, tuple[int, ...]]) -> float:
    """Seconds of one float64 eigendecomposition for each matrix of a block, on the smaller side."""
    total = 0.0
    for shape in block.values():
        if len(shape) == 2:
            x = torch.randn(min(shape), min(shape), dtype=torch.float64)
            total += measure(lambda x=x: torch.linalg.eigh(x @ x.T) and None)[0]  # type: ignore[misc]
    return total


def floor(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The row with its floor, and how far it is from it."""
    return row | {"floor_seconds": round(seconds, 4), "times_floor": round(row["seconds"] / seconds, 2)}


def sharing(experts: list[TaskVector], reference: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """Several spectral operators on the same experts with one cache of decompositions."""
    cache = SvdCache()
    ours, _, _ = measure(lambda: [MERGING[name].merge(experts, cache=cache) for name in SHARING] and None)
    again, _, _ = measure(lambda: [MERGING[name].merge(experts, cache=cache) for name in SHARING] and None)
    theirs, _, _ = measure(lambda: [reference[name](experts) for name in SHARING] and None)
    return {
        "operators": list(SHARING),
        "seconds": round(ours, 3),
        "seconds_with_filled_cache": round(again, 3),
        "reference_seconds": round(theirs, 3),
        "times_faster": round(theirs / ours, 2),
        "times_faster_with_filled_cache": round(theirs / again, 2),
    }


def mergekit() -> dict[str, Callable[..., Any]]:
    """mergekit's own sparsifiers and Karcher mean as references, where it is installed."""
    try:
        from mergekit.merge_methods.karcher import karcher_merge_tensors
        from mergekit.sparsify import RescaleNorm, SparsificationMethod, sparsify
    except ImportError:
        return {}

    def summed(method: str, **options: Any) -> Callable[[list[TaskVector]], TaskVector]:
        def merge(experts: list[TaskVector]) -> TaskVector:
            out: dict[str, Tensor] = {name: torch.zeros_like(x) for name, x in experts[0].items()}
            for expert in experts:
                for name, x in expert.items():
                    out[name] += sparsify(
                        x, method=SparsificationMethod(method), rescale_norm=RescaleNorm.l1, **options
                    )
            return out

        return merge

    def karcher(experts: list[TaskVector]) -> TaskVector:
        share = [1 / len(experts)] * len(experts)
        return {name: karcher_merge_tensors([expert[name] for expert in experts], share) for name in experts[0]}

    return {
        "karcher": karcher,
        "dare": summed("random", density=0.1),
        "della": summed("della_magprune", density=0.5, epsilon=0.15),
        "breadcrumbs": summed("magnitude_outliers", density=0.1, gamma=0.01),
    }


def main() -> None:
    """Run, print one line a row, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--spectral-width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="comma-separated operators")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    only = set(filter(None, asked.only.split(",")))
    rows: dict[str, Any] = {}

    def report(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        print(f"{name:28s}", *(f"{key}={value}" for key, value in row.items()), flush=True)
        text = json.dumps({"setting": setting, "rows": rows}, indent=1)
        asked.out.write_text(text + "\n", encoding="utf-8")  # after every row: a run cut short is not lost

    asked.out.parent.mkdir(parents=True, exist_ok=True)
    tower = vectors(shapes(asked.layers, WIDTH, outside=True))
    block = vectors(shapes(1, asked.spectral_width, outside=False))
    setting = {
        "tasks": TASKS,
        "parameters": sum(x.numel() for x in tower[0].values()),
        "spectral_parameters": sum(x.numel() for x in block[0].values()),
        "threads": 1,
        "processor": platform.machine(),
        "torch": torch.__version__,
        "wudi_steps": WUDI_STEPS,
    }
    MERGING["ties"].merge([{"w": torch.randn(100, 100)}] * 2)  # first calls load code
    read, _, _ = measure(lambda: sum(float(x.sum()) for v in tower for x in v.values()))
    report("read every byte once", {"seconds": round(read, 4)})
    for name, reference in ELEMENTWISE.items():
        if not only or name in only:
            rounds = asked.rounds if name in {"average", "task_arithmetic"} else 1
            report(name, floor(compare(name, tower, reference, rounds), read))
    for name, reference in mergekit().items():
        if not only or name in only:
            row = compare(name, tower, reference, 1) | {"difference": None}  # other rescaling, other scope
            report(f"{name} (mergekit)", floor(row, read))
    tower.clear()
    one = decompositions(shapes(1, asked.spectral_width, outside=False))
    for name, reference in SPECTRAL.items():
        if not only or name in only:
            row = compare(name, block, reference, 1)
            report(name, floor(row, one * DECOMPOSITIONS[name]) if name in DECOMPOSITIONS else row)
    if not only:
        report("shared decompositions", sharing(block, SPECTRAL))


if __name__ == "__main__":
    main()
