"""Run every benchmark that needs no GPU, one after the other; each writes benchmarks/results/NAME.json."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Exit code 1 when a benchmark failed; the others still run."""
    names = sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_") and p.stem != "gpu")
    failed = [name for name in names if _run(name)]
    print(f"{len(names) - len(failed)} benchmarks done, results in benchmarks/results/")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return bool(failed)


def _run(name: str) -> int:
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent).returncode


if __name__ == "__main__":
    sys.exit(main())
