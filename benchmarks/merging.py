"""Merging operators: time and memory against plain references and installed peers, as ratios of one run.

    python -m benchmarks.merging [--layers 2] [--spectral-width 512] [--only ties,dare]    6 minutes on one core, no GPU

Eight random task vectors in the shapes of a ViT-B-32 tower, `--layers` of its 12 blocks. Spectral operators get one
block of `--spectral-width` (768 is the real one and takes twice as long as all the rest); cost is linear in blocks.
Reference and operator take turns; times are process-CPU seconds, `times_faster` is the median over the rounds of
reference / operator. `extra_models` is the growth of resident memory while merging, the result included, in units of
one model (Linux only). `difference` is the relative L2 distance of the two results, to show that the same thing was
computed (null for random operators). Peers: `benchmarks/_peers.py`.
Floors: the time of reading every byte once, measured in the same run; for spectral operators the operations of the
decompositions that their formula asks for, at the peak of a float64 product measured in the same run: m^2 n for the
Gram matrix of m x n (m <= n) by symmetry, 14/3 m^3 for its eigenvectors (reduction to tridiagonal form 4/3, divide and
conquer 4/3, transforming back 2). `wudi` iterates and has no floor.
"""

import argparse
import ctypes
import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import _machine as machine
from benchmarks._peers import agree, peers
from benchmarks._references import ELEMENTWISE, SPECTRAL
from methods.merging import MERGING
from methods.vectors import TaskVector, generator

RESULTS = Path(__file__).parent / "results" / "merging.json"
TASKS, WIDTH = 8, 768
ROUNDS, BUDGET = 9, 2.0  # an operator takes its turn up to so often, until so many seconds are spent
WUDI_STEPS = 5  # of 300, for both sides: cost is linear in steps
DECOMPOSITIONS = {
    "tsv_m": (TASKS, 2), "iso_c": (1, 0), "iso_cts": (TASKS + 1, 2), "cart": (TASKS, 0), "star": (TASKS, 0),
    "dc_merge": (TASKS, 2),
}  # fmt: skip
"""What an operator's formula decomposes for each m x n parameter: so many m x n matrices, so many m x m ones."""


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


def compare(
    experts: list[TaskVector],
    ours: Callable[[list[TaskVector]], Any],
    theirs: Callable[[list[TaskVector]], Any],
    random: bool,
) -> dict[str, Any]:
    """One row: two ways of merging the same experts, in turns."""
    model = sum(x.numel() * x.element_size() for x in experts[0].values())
    mine, other, memory, other_memory = [], [], [], []
    gap = None
    while not mine or (len(mine) < ROUNDS and sum(mine + other) < BUDGET):
        seconds, peak, result = measure(lambda: ours(experts))
        other_seconds, other_peak, expected = measure(lambda: theirs(experts))
        mine.append(seconds)
        other.append(other_seconds)
        memory.append(peak)
        other_memory.append(other_peak)
        gap = None if random else difference(result, expected)
        del result, expected
    return {
        "seconds": round(median(mine), 4),
        "reference_seconds": round(median(other), 4),
        "times_faster": round(median(b / a for a, b in zip(mine, other, strict=True)), 2),
        "extra_models": largest(memory, model),
        "reference_extra_models": largest(other_memory, model),
        "difference": gap,
    }


def plain(name: str, experts: list[TaskVector], reference: Callable[..., Any]) -> dict[str, Any]:
    """One row: an operator at its defaults against a plain reference."""
    operator = MERGING[name]
    options: dict[str, Any] = {"iterations": WUDI_STEPS} if name == "wudi" else {}
    ours, theirs = partial(operator.merge, **options), partial(reference, **options)
    return compare(experts, ours, theirs, operator.random)


def largest(peaks: list[int | None], model: int) -> float | None:
    """The largest of the peaks in models, None where they could not be read."""
    known = [peak for peak in peaks if peak is not None]
    return round(max(known) / model, 2) if known else None


def spectral_floor(layout: dict[str, tuple[int, ...]], matrices: tuple[int, int], peak: float) -> float:
    """Seconds that so many decompositions (see DECOMPOSITIONS) of every matrix take at `peak` operations a second."""
    flops = 0.0
    for shape in layout.values():
        if len(shape) == 2:
            m, n = sorted(shape)
            flops += matrices[0] * m * m * n + matrices[1] * m**3 + sum(matrices) * 14 / 3 * m**3
    return flops / peak


def floor(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The row with its floor, and how far it is from it."""
    return row | {"floor_seconds": round(seconds, 4), "times_floor": round(row["seconds"] / seconds, 2)}


def main() -> None:
    """Run, print one line a row, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--spectral-width", type=int, default=512)
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
    setting = machine.setting(
        tasks=TASKS,
        parameters=sum(x.numel() for x in tower[0].values()),
        spectral_parameters=sum(x.numel() for x in block[0].values()),
        wudi_steps=WUDI_STEPS,
    )
    MERGING["ties"].merge([{"w": torch.randn(100, 100)}] * 2)  # first calls load code
    read = median(measure(lambda: sum(float(x.sum()) for v in tower for x in v.values()))[0] for _ in range(ROUNDS))
    report("read every byte once", {"seconds": round(read, 4)})
    for name, reference in ELEMENTWISE.items():
        if not only or name in only:
            report(name, floor(plain(name, tower, reference), read))
    layout, peak = shapes(1, asked.spectral_width, outside=False), machine.peak_flops(torch.float64)
    small = vectors(shapes(1, 64, outside=True))
    for name, peer in peers().items():
        if not only or peer.operator in only:
            agree(peer, small)
            spectral = peer.operator in DECOMPOSITIONS
            random = MERGING[peer.operator].random
            row = compare(block if spectral else tower, peer.ours, peer.theirs, random)
            least = spectral_floor(layout, DECOMPOSITIONS[peer.operator], peak) if spectral else read
            report(name, floor(row, least))
    tower.clear()
    for name, reference in SPECTRAL.items():
        if not only or name in only:
            row = plain(name, block, reference)
            if name in DECOMPOSITIONS:
                row = floor(row, spectral_floor(layout, DECOMPOSITIONS[name], peak))
            report(name, row)


if __name__ == "__main__":
    main()
