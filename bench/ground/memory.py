"""A cap on the memory of a process, so that a cell that wants too much fails alone instead of taking the machine along.

The cap is the kernel's limit on private writable memory (RLIMIT_DATA, Linux): an allocation beyond it is refused, and
torch, numpy and Python raise an error for it. Memory that processes share does not count: mapped images, Ray's store.
What a process has before its first cell does not count either: it is 0.8 GiB with --local and 2 GiB in a worker of Ray,
most of it reserved for threads and never touched.
"""

import resource
import sys
from pathlib import Path

from bench.errors import BenchError

GIB = 2**30
REFUSALS = ("can't allocate memory", "not enough memory", "bad_alloc", "Cannot allocate memory", "CUDA out of memory")
"""How libraries that have no error of their own for it say that memory is exhausted."""


def cap(gib: float) -> None:
    """Let this process take at most `gib` GiB more than it has; 0: as much as there is.

    BenchError for a negative cap, and where the kernel has none.
    """
    if not gib:
        return
    if gib < 0:
        raise BenchError(f"--memory-limit is {gib:g}; give GiB, or 0 for no limit")
    if sys.platform != "linux":
        raise BenchError(f"--memory-limit needs Linux, this is {sys.platform}; leave it out")
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held() + int(gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most < 0 else min(wanted, most), most))


def held() -> int:
    """Bytes of private writable memory of this process, as the cap counts them."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024


def exhausted(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that there is no memory left."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or any(refusal in str(seen) for refusal in REFUSALS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def explain(error: BaseException, gib: float, device: str) -> str:
    """One line on an error for which `exhausted` holds: what was refused, and what to do."""
    first = (str(error).splitlines() or [""])[0].rpartition("DefaultCPUAllocator: ")[2].rstrip(". ")
    what = f"out of memory ({first or type(error).__name__})"
    if device == "cuda" and "CUDA" in first:
        return f"{what}; use --runtime checkpointing=true, a smaller batch_size, or fewer cells on a GPU"
    if gib:
        return f"{what}: a process may take {gib:g} GiB; raise --memory-limit, or use --runtime checkpointing=true"
    return f"{what}; use fewer --workers, or --runtime checkpointing=true"
