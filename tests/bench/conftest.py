"""What several files measure against."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with zero-shot, two experts of eight steps and their sum, really measured. Only for reading."""
    from bench import catalogue, grid, suites
    from bench.run import Session
    from bench.runtime import Runtime

    where = tmp_path_factory.mktemp("measured") / "store"
    session = Session(Runtime(str(where)))
    chosen = grid.grid("smoke")
    plan = grid.plan(
        suites.load(chosen.suite), chosen, catalogue.load(), finetuning=["nonlinear"], operators=["task_arithmetic"]
    )
    assert [session.attempt(cell).status for cell in plan] == ["done"] * 4
    return where


@pytest.fixture
def store(measured: Path, tmp_path: Path) -> Path:
    """A copy of `measured` to spoil."""
    return Path(shutil.copytree(measured, tmp_path / "store"))
