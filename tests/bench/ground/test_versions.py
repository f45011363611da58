"""What a record, the doctor and a checkpoint say about the code that runs."""

from importlib.metadata import PackageNotFoundError

import pytest

from bench.ground import versions
from bench.kinds import session


def test_a_bench_that_is_not_installed_is_a_checkout_wherever_its_version_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("importlib.metadata.version", nothing)
    assert session.here()["bench"] == versions.here()["bench"] == versions.of("bench") == "checkout"
    assert versions.here()["torch"] == versions.of("torch") == "missing"


def test_an_installed_bench_has_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"bench": "7.1"}.get)
    assert session.here()["bench"] == versions.here()["bench"] == "7.1"
