"""With what this process runs: Python, packages, and the code of `bench` itself. Imports none of them."""

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BENCH = "0.1.0"
ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "open_clip_torch", "ray", "pyarrow", "pandas", "numpy", "safetensors", "pydantic", "typer")
COMPUTE = ("python", "torch", "open_clip_torch", "numpy", "code")
"""What results come from; a run has one of each."""


def of(package: str) -> str:
    """The version of a package, or `missing`; of `bench` itself, which is here in any case, `checkout`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "checkout" if package == "bench" else "missing"


@cache
def code() -> str:
    """Hash of the Python files of `bench` and `methods`: two checkouts of one version need not be the same code."""
    files = hashlib.sha256()
    for path in sorted(p for top in ("bench", "methods") for p in (ROOT / top).rglob("*.py")):
        files.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return files.hexdigest()[:12]


def here() -> dict[str, str]:
    """All of it, by name."""
    return {"python": platform.python_version(), "code": code(), **{p: of(p) for p in ("bench", *PACKAGES)}}


@cache
def commit() -> str:
    """The commit of the checkout this code comes from, with `+` when files differ from it; empty when installed."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "bench", "methods")
    except (OSError, subprocess.SubprocessError):
        return ""
    return head[:12] + ("+" if changed else "")


def _git(*words: str) -> str:
    """What git says about the checkout."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
