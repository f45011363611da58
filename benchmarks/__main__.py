"""Run every benchmark that needs no GPU, one after the other; each writes benchmarks/results/NAME.json.

Then the tables of docs/speed.md are made from these (`benchmarks._table`).
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import _table

HERE = Path(__file__).parent


def main() -> int:
    """Exit code 1 when a benchmark failed; the others still run."""
    names = sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_") and p.stem != "gpu")
    failed = [name for name in names if _run(name)]
    print(f"{len(names) - len(failed)} benchmarks done, results in benchmarks/results/")
    if failed:
        print(f"failed: {', '.join(failed)}")
        return 1
    return _table.main()


def _run(name: str) -> int:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"-- {name}: {time.perf_counter() - start:.0f} s, {spent:.0f} CPU-seconds", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
