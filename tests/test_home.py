"""Tests have a home of their own."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cards import datasets
from bench.pixels import images, mini8, sources
from bench.planning.costs import path_of
from bench.work import resume

ROOT = Path(__file__).parent.parent
REAL = Path(pwd.getpwuid(os.getuid()).pw_dir)
"""As the system knows it, whatever the environment says."""


def test_no_cache_lies_in_the_home_of_whoever_runs_the_tests(home: Path) -> None:
    places = [images.cache_folder(), path_of("cpu"), resume.folder("s3://bucket/store"), sources.data_folder()]
    assert all(home in place.parents for place in [*places, Path.home() / "x", Path("~/x").expanduser()])
    assert images.cache_folder() == home / ".cache" / "bench"
    assert REAL not in home.parents
    assert home != REAL


def test_neither_does_what_a_library_keeps(home: Path) -> None:
    from huggingface_hub import constants
    from torch.hub import get_dir

    assert home in Path(get_dir()).parents
    for name in ("HF_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
        assert home in Path(os.environ[name]).parents
    assert home in Path(constants.HF_HUB_CACHE).parents


def test_processes_of_a_test_share_it(home: Path) -> None:
    code = "from bench.pixels import images; print(images.cache_folder())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == str(home / ".cache" / "bench")


def test_workers_of_one_run_share_it(home: Path, tmp_path: Path) -> None:
    """`home` is beside the folders of the workers, or in that of the only process."""
    base = tmp_path.parent
    assert home.parent in (base, base.parent)
    assert home.parent == (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


def test_what_is_drawn_once_in_a_run_is_not_drawn_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = datasets.load("digits")
    first = images.load(card, "validation", 32)
    folder = images.folder_of(card, "validation", 32)
    assert home in folder.parents
    assert sorted(path.name for path in folder.iterdir()) == ["labels.npy", "pixels.npy"]
    monkeypatch.setattr(mini8, "render", lambda *_: pytest.fail("drawn again"))
    assert images.digest(images.load(card, "validation", 32)) == images.digest(first)
