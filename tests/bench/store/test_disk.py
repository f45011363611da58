"""A disk that is full and one that is read-only: real file systems of their own, so it needs the right to mount."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import contents

from bench.checks import garbage
from bench.cli.app import call
from bench.store import results
from bench.store.store import Store

ROOT = Path(__file__).parents[3]
GRID = ("run", "--grid", "smoke", "--methods", "nonlinear", "--operators", "average", "--store")
MIB = 2**20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB in memory."""
    where = tmp_path / "disk"
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(where)], capture_output=True)
    if made.returncode:
        pytest.skip("this user may not mount a file system")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def bench(*words: str) -> tuple[int, str]:
    """Exit code and what is said on stderr, without the progress of the run."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words], env=environment, capture_output=True, text=True, timeout=600
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("how", [["--local"], ["--workers", "1"]], ids=["local", "ray"])
def test_a_full_disk_ends_the_run_in_a_line_and_the_same_command_finishes(disk, tmp_path, how):
    """Room for one task vector of 6.4 MiB and not for two."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * (54 * MIB))
    where = disk / "store"
    code, err = bench(*GRID, str(where), *how)
    assert code == 2
    last = err.rstrip().splitlines()[-1]
    assert last.startswith(f"bench run: cannot write to store {where}: [Errno 28]")
    assert last.endswith("free space or fix access, then run again")
    assert last.count("Errno 28") == 1
    assert "Traceback" not in err

    store = Store(where)
    kept = store.done()
    assert 1 <= len(kept) < 4
    assert len(list(store.read_all())) == len(kept)  # every record that is there is whole
    assert [f.path for f in garbage.find(store, hours=0).old if f.why == garbage.TEMPORARY] == []
    assert results.validate(store) == []

    ballast.unlink()
    code, err = bench(*GRID, str(where), *how)
    assert code == 0, err
    assert f"4 cells, {len(kept)} already done" in err
    quiet = tmp_path / "quiet"
    code, err = bench(*GRID, str(quiet), "--local")
    assert code == 0, err
    assert contents(store) == contents(Store(quiet))


def test_a_read_only_store_is_read_and_refuses_a_run_in_a_line(disk, measured, capsys):
    where = disk / "store"
    subprocess.run(["cp", "-r", str(measured), str(where)], check=True)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, err = bench(*GRID, str(where), "--local")
    assert code == 2
    last = err.rstrip().splitlines()[-1]
    assert last.startswith(f"bench run: cannot write to store {where}: [Errno 30]")
    assert "Traceback" not in err
    assert "importing torch" not in err  # said before anything is computed
    for words in (["status"], ["results", "validate"], ["results", "gc"], ["verify", "zero-shot"]):
        assert call([*words, "--store", str(where)]) == 0
    assert "zero-shot: 1 cell run again, all as in" in capsys.readouterr().out
