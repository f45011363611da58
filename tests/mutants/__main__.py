"""Plants every fault of `faults/`, one at a time, and says whether the tests that guard it notice.

    python -m tests.mutants              all of them
    python -m tests.mutants addition     those whose file, text, tests or reason contain the word
    python -m tests.mutants --list       what there is

Two copies of the working tree in a temporary folder take turns; the tree itself is never written to. A fault is caught
when the tests fail: not when they cannot be collected, nor when they time out. The same tests must pass without it.
"""

import argparse
import itertools
import multiprocessing
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.mutants import fork
from tests.mutants.fault import Fault
from tests.mutants.faults import FAULTS

ROOT = Path(__file__).parent.parent.parent
WORKERS = 2
TIMEOUT, WHOLE = 300.0, 3600.0
"""Seconds for the tests of one fault, and for those of all without any."""
Found = TypeVar("Found")

PLANTED = itertools.count(1)
FORKS = multiprocessing.get_context("forkserver")
"""Every run of pytest is a fork of one process that has imported the big libraries, and nothing of this project."""


def copy(into: Path) -> Path:
    """The tracked files and the untracked ones that git does not ignore, as they are now."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    named = subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, named):
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)
    return into


@contextmanager
def planted(root: Path, fault: Fault) -> Iterator[None]:
    """The fault in a copy of the tree, and out again; ValueError unless its place is there exactly once."""
    path = root / fault.file
    text, times = path.read_text(encoding="utf-8"), path.stat()
    if text.count(fault.old) != 1:
        raise ValueError(f"its old text is {text.count(fault.old)} times in the file, not once")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    later = times.st_mtime + 10 * next(PLANTED)  # a .pyc knows its source by size and second alone
    os.utime(path, (later, later))
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, (times.st_atime, times.st_mtime))


def measured(root: Path, *options: str, tests: Iterable[str], timeout: float = TIMEOUT) -> tuple[int | None, str]:
    """`(exit code, last lines)` of the tests in a copy; the code is None when the time is over."""
    log = root.parent / "log"
    words = ["-q", "-p", "no:cacheprovider", f"--basetemp={root.parent / 'scratch'}", *options, *sorted(set(tests))]
    process = FORKS.Process(target=fork.run, args=(str(root), words, str(log)))
    process.start()
    try:
        process.join(timeout)
    finally:
        over = process.exitcode is None
        if over:
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
    said = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return None if over else process.exitcode, "\n".join(said[-12:])


def verdict(code: int | None, said: str) -> str:
    """`caught`; or else what happened instead. Exit code 1 alone also comes of tests that could not begin."""
    if code is None:
        return "missed: the tests ran out of time"
    if code == 0:
        return "missed: the tests pass"
    last = said.splitlines()[-1] if said else ""
    if code == 1 and re.search(r"\b[1-9]\d* failed\b", last) and not re.search(r"\berrors?\b", last):
        return "caught"
    return f"missed: pytest ended with {code}, {last or 'without a word'}"


def one(root: Path, fault: Fault) -> str:
    """What became of one fault."""
    try:
        with planted(root, fault):
            return verdict(*measured(root, "-x", tests=fault.tests))
    except (OSError, ValueError) as error:
        return f"missed: {error}"


def run(faults: Sequence[Fault]) -> int:
    """All of them; the number that was missed."""
    os.environ.update(OMP_NUM_THREADS="1", PYTHONHASHSEED="0")
    FORKS.set_forkserver_preload(fork.LIBRARIES)
    start, missed = time.perf_counter(), 0
    files = sorted({test for fault in faults for test in fault.tests})
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(WORKERS) as pool:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(WORKERS):
            trees.put(copy(Path(folder) / str(number) / "tree"))

        def turn(work: Callable[[Path], Found]) -> tuple[Found, float]:
            tree, begun = trees.get(), time.perf_counter()
            try:
                return work(tree), time.perf_counter() - begun
            finally:
                trees.put(tree)

        shares = [share for share in (files[n::WORKERS] for n in range(WORKERS)) if share]
        for (code, said), seconds in pool.map(turn, [partial(measured, tests=s, timeout=WHOLE) for s in shares]):
            if code != 0:
                print(f"the tests do not pass without any fault:\n{said}")
                return len(faults)
            print(f"passed {seconds:5.1f} s  without any fault: {said.splitlines()[-1]}", flush=True)
        for fault, (found, seconds) in zip(
            faults, pool.map(turn, [partial(one, fault=f) for f in faults]), strict=True
        ):
            missed += found != "caught"
            print(f"{found:6} {seconds:5.1f} s  {fault.file}: {fault.why}", flush=True)
    print(f"{time.perf_counter() - start:.0f} s")
    print(f"{len(faults)} faults, {len(faults) - missed} caught, {missed} missed")
    return missed


def chosen(words: Iterable[str]) -> list[Fault]:
    """The faults in which all of the words occur."""
    return [f for f in FAULTS if all(w in "\n".join((f.file, f.old, f.new, f.why, *f.tests)) for w in words)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only faults whose file, text, tests or reason contain these")
    parser.add_argument("--list", action="store_true", help="say which there are, and run nothing")
    given = parser.parse_args()
    faults = chosen(given.words)
    if given.list:
        print("\n".join(f"{fault.file}: {fault.why}" for fault in faults))
        return 0
    if not faults:
        print(f"no fault contains {' and '.join(given.words)}")
        return 1
    return int(run(faults) > 0)


if __name__ == "__main__":
    sys.exit(main())
