"""`bench doctor`: what on this machine, and on every node of a cluster, would make a run fail or crawl, and the remedy.

A check returns findings; it never raises. The slow ones (torch, Ray) run only where they are asked for.
"""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from bench import cards, images, preflight, suites
from bench.cells import Cell
from bench.errors import BenchError, first_line
from bench.store import Store

PACKAGES = ("torch", "open_clip_torch", "ray", "pyarrow", "pandas", "numpy", "safetensors", "pydantic", "typer")
GIB = 2**30
SCRATCH_GIB, STORE_GIB, SHARED_MIB = 2, 1, 256
SKEW_SECONDS = 5.0

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. `remedy` says what to do and is empty when all is well."""

    check: str
    level: Level
    said: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def examine(store: str, suite: str, cells: Iterable[Cell], *, device: str = "cpu", address: str = "") -> list[Finding]:
    """Every check of this machine; with `address`, of every node of the cluster too."""
    found = [*packages(), *disk(store), *shared_memory(), *reach(store), *inputs(suite, cells), *bytecode()]
    if device == "cuda":
        found += gpus()
    if address:
        found += nodes(address, store)
    return found


def facts() -> dict[str, Any]:
    """What must agree between nodes: versions of Python and packages, and the time."""
    return {"python": platform.python_version(), **{p: _version(p) for p in ("bench", *PACKAGES)}, "time": time.time()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def packages() -> list[Finding]:
    """Are all required packages here, in versions that the project asks for?"""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("bench") or ()]
    except PackageNotFoundError:
        return [Finding("packages", "warning", "bench runs from a checkout, not installed", "pip install -e .")]
    needed = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = [
        f"{r.name} {_version(r.name)} (needs {r.specifier})"
        for r in needed
        if _version(r.name) == "missing" or not r.specifier.contains(_version(r.name), prereleases=True)
    ]
    if wrong:
        return [Finding("packages", "problem", ", ".join(wrong), "install again with `make setup`")]
    return [Finding("packages", "ok", f"python {platform.python_version()}, {len(needed)} required packages fit")]


def disk(store: str) -> list[Finding]:
    """Space for records and vectors, for cached images, and for Ray's sockets and spills."""
    places = {"cache": images.cache_folder(), "scratch": Path(tempfile.gettempdir())}
    if "://" not in store:
        places["store"] = Path(store).expanduser().resolve()
    found = []
    for name, place in places.items():
        here = next(p for p in (place, *place.parents) if p.exists())
        free = shutil.disk_usage(here).free / GIB
        least = SCRATCH_GIB if name == "scratch" else STORE_GIB
        if free < least:
            said = f"{name} {place}: {free:.1f} GiB free"
            found.append(Finding("disk", "problem", said, f"free at least {least} GiB or choose another folder"))
        elif not os.access(here, os.W_OK):
            found.append(
                Finding("disk", "problem", f"{name} {place} cannot be written", "fix access or choose another")
            )
        else:
            found.append(Finding("disk", "ok", f"{name} {place}: {free:.1f} GiB free"))
    return found


def shared_memory(where: str = "/dev/shm") -> list[Finding]:
    """Ray's object store lives there; containers often get 64 MiB."""
    if not Path(where).is_dir():
        return []
    free = shutil.disk_usage(where).free / 2**20
    if free < SHARED_MIB:
        remedy = "start the container with --shm-size=1g, or run with --local"
        return [Finding("shared memory", "problem", f"{where}: {free:.0f} MiB free", remedy)]
    return [Finding("shared memory", "ok", f"{where}: {free:.0f} MiB free")]


def reach(store: str) -> list[Finding]:
    """Can the store be opened, written and listed?"""
    if "://" not in store and not Path(store).expanduser().exists():
        return [Finding("store", "ok", f"{store} does not exist yet; the first run creates it")]
    probe = f"doctor-{platform.node()}-{os.getpid()}"
    try:
        opened = Store(store)
        began = time.perf_counter()
        opened.write_failure(probe, {"error": "probe"})
        known = probe in opened.failed()
        opened.forget_failures([probe])
        took = time.perf_counter() - began
    except (BenchError, OSError) as error:
        return [Finding("store", "problem", first_line(error), "fix the path or your access to it")]
    if not known:
        return [Finding("store", "problem", f"{store}: a file just written is not listed", "use another file system")]
    return [Finding("store", "ok", f"{store}: written, listed and removed in {1000 * took:.0f} ms")]


def inputs(suite: str, cells: Iterable[Cell]) -> list[Finding]:
    """Weights and data sets of the suite; damaged caches of generated data are found by `bench data check`."""
    chosen = suites.load(suite)
    lacks = preflight.missing(chosen, cells)
    if lacks:
        return [
            Finding("inputs", "problem", line.partition(": ")[0] + " missing", line.partition(": ")[2])
            for line in lacks
        ]
    tasks = (*chosen.tasks, chosen.control)
    drawn = sum(images.drawn(cards.load(task)) for task in tasks)
    return [
        Finding("inputs", "ok", f"suite {suite}: weights and {len(tasks)} data sets are here ({drawn} drawn on demand)")
    ]


def bytecode() -> list[Finding]:
    """Without bytecode every worker compiles torch, open_clip and ray again."""
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return []
    import typer

    compiled = any((Path(typer.__file__).parent / "__pycache__").glob("*.pyc"))
    if compiled:
        return []
    said = "PYTHONDONTWRITEBYTECODE is set and packages are not compiled: workers start 3-4 times slower"
    return [Finding("bytecode", "warning", said, "python -m compileall -q the environment, or unset the variable")]


def gpus() -> list[Finding]:
    """CUDA devices and their free memory."""
    import torch

    if not torch.cuda.is_available():
        return [
            Finding("gpu", "problem", "torch sees no CUDA device", "use --device cpu, or fix driver and torch build")
        ]
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = (value / GIB for value in torch.cuda.mem_get_info(index))
        said = f"{torch.cuda.get_device_name(index)}: {free:.1f} of {total:.1f} GiB free"
        full = free < total / 2
        remedy = "another process holds it; wait or choose with CUDA_VISIBLE_DEVICES" if full else ""
        found.append(Finding("gpu", "warning" if full else "ok", said, remedy))
    return found


def nodes(address: str, store: str) -> list[Finding]:
    """Every live node of the cluster: same versions, a clock that agrees, and access to the store."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    try:
        ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
    except Exception as error:
        said = f"{address}: {first_line(error)}"
        return [Finding("cluster", "problem", said, "start one with `ray start --head`, or fix the token")]
    try:
        look = ray.remote(num_cpus=0)(_look)
        asked = {}
        for node in ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                asked[node["NodeManagerAddress"] + ":" + node["NodeID"][:6]] = (
                    time.time(),
                    look.options(scheduling_strategy=there).remote(store),
                )
        found = []
        for name, (sent, answer) in asked.items():
            try:
                theirs = ray.get(answer, timeout=120)
            except Exception as error:
                said = f"{name}: {(str(error).splitlines() or [''])[-1]}"
                found.append(Finding("node", "problem", said, "install bench there, in the same environment"))
                continue
            found.append(compare(name, facts(), theirs, sent, time.time()))
        return found
    finally:
        ray.shutdown()


def _look(store: str) -> dict[str, Any]:
    told = reach(store)[-1]
    return {**facts(), "store": "" if told.level == "ok" else told.said}


def compare(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], sent: float, received: float) -> Finding:
    """One node against this process; its clock may lie anywhere between sending and receiving."""
    other = [f"{k} {theirs.get(k)} (here {ours[k]})" for k in ours if k != "time" and theirs.get(k) != ours[k]]
    if other:
        return Finding("node", "problem", f"{name}: {', '.join(other)}", "install the same versions (constraints.txt)")
    if theirs.get("store"):
        return Finding(
            "node", "problem", f"{name}: {theirs['store']}", "mount the store at the same path on every node"
        )
    skew = max(sent - theirs["time"], theirs["time"] - received, 0.0)
    if skew > SKEW_SECONDS:
        return Finding("node", "warning", f"{name}: its clock is {skew:.0f} s off", "synchronise clocks (chrony, ntpd)")
    return Finding("node", "ok", f"{name}: same versions, store reachable, clock agrees")
