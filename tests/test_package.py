"""What an installed wheel carries: every package, the cards, suites, weights and templates."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        ".".join(p.parent.relative_to(ROOT).parts) for top in ("bench", "methods") for p in (ROOT / top).rglob("*.py")
    }
    assert listed == there | {"bench.datasets"}


def test_no_dependency_on_peft_or_transformers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not any(name.startswith(("peft", "transformers")) for name in project["dependencies"])


@pytest.mark.slow
def test_an_installed_wheel_plans_and_runs_in_an_empty_directory(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, timeout=240)
    (wheel,) = tmp_path.glob("*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    cards = {p.stem for p in (ROOT / "datasets").glob("*.toml")}
    assert {p.stem for p in (site / "bench" / "datasets").glob("*.toml")} == cards
    env = os.environ | {"PYTHONPATH": str(site), "BENCH_CACHE": str(tmp_path / "cache"), "PYTHONSAFEPATH": "1"}
    command = [
        sys.executable,
        "-m",
        "bench",
        "run",
        "--grid",
        "smoke",
        "--methods",
        "att",
        "--operators",
        "average",
        "--local",
        "--json",
    ]
    done = subprocess.run(command, cwd=empty, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in empty.iterdir()) == ["store"]
