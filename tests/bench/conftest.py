"""What several files measure against, and ask of the command line."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with zero-shot, two experts of eight steps and their sum, really measured. Only for reading."""
    from bench.cards import suites
    from bench.kinds.session import Session
    from bench.planning import grid
    from bench.registry import catalogue
    from bench.store.store import Store
    from bench.work.runtime import How

    where = tmp_path_factory.mktemp("measured") / "store"
    session = Session(How(), Store(where))
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


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refused(*words)`: the one line that `bench` says to a command that the user has to mend."""
    from bench.cli.app import call

    def said(*words: object) -> str:
        capsys.readouterr()
        assert call([str(word) for word in words]) == 2, words
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1), (words, err)
        return err

    return said


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The endpoint, HOST:PORT, of an S3 server on loopback."""
    moto = pytest.importorskip("moto.server", reason="moto[s3,server] is a development dependency")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"{host}:{port}"
    running.stop()
