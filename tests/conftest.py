"""One thread a process: two OpenMP threads stall each other on a loaded machine. And a home of one's own.

Caches lie in a folder of this run, which all its processes share: what they draw or build there is made once, appears
under its name when it is whole, and goes with the run's other temporary files. No test reads or fills `~/.cache`.
"""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

PLACES = {
    "HOME": "", "XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "BENCH_CACHE": ".cache/bench",
    "HF_HOME": ".cache/huggingface", "TORCH_HOME": ".cache/torch", "MPLCONFIGDIR": ".cache/matplotlib",
}  # fmt: skip
"""Variables that say where people and libraries keep what is theirs, and the place of each below the run's home."""
ELSEWHERE = ("BENCH_DATA", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
"""Variables that would lead out of it again."""


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before anything is collected: libraries look at their variables when they are imported."""
    found = _home(config)
    for name, place in PLACES.items():
        (found / place).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(found / place)
    for name in ELSEWHERE:
        os.environ.pop(name, None)


def _home(config: pytest.Config) -> Path:
    base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    return (base.parent if hasattr(config, "workerinput") else base) / "home"


@pytest.fixture(scope="session")
def home(request: pytest.FixtureRequest) -> Path:
    """The home folder of this run, the same for all workers of xdist."""
    return _home(request.config)
