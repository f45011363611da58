"""`bench doctor`: what on this machine, and on every node of a cluster, would make a run fail or crawl, and the remedy.

A check returns findings; it never raises. The slow ones (torch, Ray) run only where they are asked for.
"""

import contextlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any, Literal

from bench.cards import datasets, suites
from bench.errors import BenchError, first_line
from bench.ground import versions
from bench.kinds.base import Cell
from bench.pixels import images
from bench.planning import preflight
from bench.store.store import Store

GIB = 2**30
SCRATCH_GIB, STORE_GIB, SHARED_MIB = 2, 1, 256
SHARED = Path("/dev/shm")
SKEW_SECONDS = 5.0
PATIENCE = 300.0
"""Seconds for a node to answer; the first import of torch from a network disk takes minutes."""

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. `remedy` says what to do and is empty when all is well."""

    check: str
    level: Level
    said: str
    remedy: str = ""


def examine(store: str, suite: str, cells: Iterable[Cell], *, device: str = "cpu", address: str = "") -> list[Finding]:
    """Every check of this machine; with `address`, of every node of the cluster too."""
    if "://" not in store:
        store = str(Path(store).expanduser().resolve())  # a node has another working folder
    asked = store, suite, list(cells), device
    return [*machine(*asked), *(nodes(address, *asked) if address else ())]


def machine(store: str, suite: str, cells: Iterable[Cell], device: str) -> list[Finding]:
    """Every check of one machine."""
    findings = [*packages(), *disk(store), *shared_memory(), *reach(store), *inputs(suite, cells), *bytecode()]
    return [*findings, *(gpus() if device == "cuda" else ())]


def packages() -> list[Finding]:
    """Are all required packages here, in versions that the project asks for?"""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("bench") or ()]
    except PackageNotFoundError:
        return [Finding("packages", "warning", "bench runs from a checkout, not installed", "pip install -e .")]
    needed = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = [
        f"{r.name} {versions.of(r.name)} (needs {r.specifier})"
        for r in needed
        if versions.of(r.name) == "missing" or not r.specifier.contains(versions.of(r.name), prereleases=True)
    ]
    if wrong:
        return [Finding("packages", "problem", ", ".join(wrong), "install again with `make setup`")]
    return [Finding("packages", "ok", f"python {platform.python_version()}, {len(needed)} required packages fit")]


def disk(store: str) -> list[Finding]:
    """Space for records and vectors, for cached images, and for Ray's sockets and spills."""
    places = {"cache": images.cache_folder(), "scratch": Path(tempfile.gettempdir())}
    if "://" not in store:
        places["store"] = Path(store).expanduser().resolve()
    findings = []
    for name, place in places.items():
        here = next(p for p in (place, *place.parents) if p.exists())
        free = shutil.disk_usage(here).free / GIB
        least = SCRATCH_GIB if name == "scratch" else STORE_GIB
        finding = Finding("disk", "ok", f"{name} {place}: {free:.1f} GiB free")
        if free < least:
            finding = replace(finding, level="problem", remedy=f"free at least {least} GiB or choose another folder")
        elif not os.access(here, os.W_OK):
            text = f"{name} {place} cannot be written"
            finding = Finding("disk", "problem", text, "fix access or choose another")
        findings.append(finding)
    return findings


def shared_memory() -> list[Finding]:
    """Ray's object store lives there; containers often get 64 MiB."""
    if not SHARED.is_dir():
        return []
    free = shutil.disk_usage(SHARED).free / 2**20
    finding = Finding("shared memory", "ok", f"{SHARED}: {free:.0f} MiB free")
    remedy = "start the container with --shm-size=1g, or run with --local"
    return [finding if free >= SHARED_MIB else replace(finding, level="problem", remedy=remedy)]


def reach(store: str) -> list[Finding]:
    """Can the store be opened, written and listed?"""
    if "://" not in store and not Path(store).expanduser().exists():
        return [Finding("store", "ok", f"{store} does not exist yet; the first run creates it")]
    probe = f"doctor-{platform.node()}-{os.getpid()}"
    try:
        opened = Store(store)
        began = time.perf_counter()
        opened.write_failure(probe, {"error": "probe"})
        listed = probe in opened.failed()
        opened.forget_failures([probe])
        took = time.perf_counter() - began
    except (BenchError, OSError) as error:
        return [Finding("store", "problem", first_line(error), "fix the path or your access to it")]
    if not listed:
        return [Finding("store", "problem", f"{store}: a file just written is not listed", "use another file system")]
    return [Finding("store", "ok", f"{store}: written, listed and removed in {1000 * took:.0f} ms")]


def inputs(suite: str, cells: Iterable[Cell]) -> list[Finding]:
    """Weights and data sets of the suite; damaged caches of generated data are found by `bench data check`."""
    chosen = suites.load(suite)
    lacks = [line.partition(": ") for line in preflight.missing(chosen, cells)]
    if lacks:
        return [Finding("inputs", "problem", f"{what} missing", remedy) for what, _, remedy in lacks]
    tasks = (*chosen.tasks, chosen.control)
    drawn = sum(datasets.load(task).drawn for task in tasks)
    text = f"suite {suite}: weights and {len(tasks)} data sets are here ({drawn} drawn on demand)"
    return [Finding("inputs", "ok", text)]


def bytecode() -> list[Finding]:
    """Without bytecode every worker compiles torch, open_clip and ray again."""
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return []
    import typer

    compiled = any((Path(typer.__file__).parent / "__pycache__").glob("*.pyc"))
    if compiled:
        return []
    text = "PYTHONDONTWRITEBYTECODE is set and packages are not compiled: workers start 3-4 times slower"
    return [Finding("bytecode", "warning", text, "python -m compileall -q the environment, or unset the variable")]


def gpus() -> list[Finding]:
    """CUDA devices and their free memory."""
    import torch

    if not torch.cuda.is_available():
        remedy = "use --device cpu, or fix driver and torch build"
        return [Finding("gpu", "problem", "torch sees no CUDA device", remedy)]
    findings = []
    for index in range(torch.cuda.device_count()):
        free, total = (value / GIB for value in torch.cuda.mem_get_info(index))
        text = f"{torch.cuda.get_device_name(index)}: {free:.1f} of {total:.1f} GiB free"
        full = free < total / 2
        remedy = "another process holds it; wait or choose with CUDA_VISIBLE_DEVICES" if full else ""
        findings.append(Finding("gpu", "warning" if full else "ok", text, remedy))
    return findings


def nodes(address: str, store: str, suite: str, cells: Sequence[Cell], device: str) -> list[Finding]:
    """Every live node of the cluster: same versions, a clock that agrees, the same store, and all of `machine`."""
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # as in `bench.driver.ray_tune`: read when ray comes
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    try:
        ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
    except Exception as error:
        text = f"{address}: {first_line(error)}"
        return [Finding("cluster", "problem", text, "start one with `ray start --head`, or fix the token")]
    try:
        look, clock = ray.remote(num_cpus=0)(_look), ray.remote(num_cpus=0)(_clock)
        findings, asked = [], {}
        with _probe(store) as probe:
            for node in ray.nodes():
                if node["Alive"]:
                    there = {"scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)}
                    has = {name for name, amount in node["Resources"].items() if amount}
                    works = (store, suite, cells, device if "GPU" in has else "cpu") if "CPU" in has else None
                    name = f"{node['NodeManagerAddress']}:{node['NodeID'][:6]}"
                    asked[name] = there, look.options(**there).remote(probe, works)
            for name, (there, answer) in asked.items():
                try:
                    theirs = ray.get(answer, timeout=PATIENCE)
                    sent = time.time()  # asked again, now that the worker is warm and answers at once
                    theirs["time"] = ray.get(clock.options(**there).remote(), timeout=PATIENCE)
                except Exception as error:
                    text = f"{name}: {(str(error).splitlines() or [''])[-1]}"
                    findings.append(Finding("node", "problem", text, "install bench there, in the same environment"))
                    continue
                findings += compare(name, versions.here(), theirs, sent, time.time())
        return findings
    finally:
        ray.shutdown()


def _clock() -> float:
    return time.time()


@contextlib.contextmanager
def _probe(store: str) -> Iterator[str]:
    """A file where the store is, or will be, that other nodes see if they share the folder; empty for a URL."""
    if "://" in store:
        yield ""
        return
    folder = next(p for p in (Path(store), *Path(store).parents) if p.is_dir())
    probe = folder / f".bench-doctor-{platform.node()}-{os.getpid()}"
    try:
        probe.touch()
        yield str(probe)
    except OSError:  # `disk` has said that it cannot be written
        yield ""
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _look(probe: str, works: tuple[str, str, Sequence[Cell], str] | None) -> dict[str, Any]:
    """What a node says of itself. `works`: what to look at where cells will run, as `machine` is asked."""
    return {
        "versions": versions.here(),
        "shared": not probe or Path(probe).exists(),
        "findings": machine(*works) if works else [],
    }


def compare(
    name: str, ours: Mapping[str, str], theirs: Mapping[str, Any], sent: float, received: float
) -> list[Finding]:
    """What is wrong with one node, or one line that all is well. Its clock may lie anywhere between asking and
    hearing from it."""
    findings = [replace(f, said=f"{name}: {f.said}") for f in theirs["findings"] if f.level != "ok"]
    other = [f"{k} {theirs['versions'].get(k)} (here {ours[k]})" for k in ours if theirs["versions"].get(k) != ours[k]]
    if other:
        remedy = "install the same versions (constraints.txt) and the same bench"
        findings.append(Finding("node", "problem", f"{name}: {', '.join(other)}", remedy))
    if not theirs["shared"]:
        remedy = "mount the store at the same path on every node, or name one by URL"
        findings.append(Finding("node", "problem", f"{name}: has another folder where the store is", remedy))
    skew = max(sent - theirs["time"], theirs["time"] - received, 0.0)
    if skew > SKEW_SECONDS:
        text = f"{name}: its clock is {skew:.0f} s off"
        findings.append(Finding("node", "warning", text, "synchronise clocks (chrony, ntpd)"))
    return findings or [Finding("node", "ok", f"{name}: same versions, store reachable, clock agrees")]
