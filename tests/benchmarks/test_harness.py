"""The measurement of the harness, at one twentieth of its size: what it measures happens, and gives right results."""

import json
from pathlib import Path

import pytest

from bench.store import results
from bench.store.store import Store
from benchmarks import _noop, harness


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("harness")
    return scratch, harness.measure(1, (), scratch)


def test_every_stage_reports_what_it_costs(measured) -> None:
    _, found = measured
    assert len(found) == 11
    for name, figures in found.items():
        assert figures["seconds"] > 0, name
        assert figures["cpu_seconds"] > 0, name
        assert figures["peak_mb"] > 10, name
    assert found["driver, --local"]["cells"] == len(harness.plan(1))
    assert found["read, compacted"]["rows"] == found["read, a file a record"]["rows"] > 10_000


def test_the_records_are_those_of_the_plan_and_contradict_nothing(measured) -> None:
    scratch, _ = measured
    store = Store(scratch / "store", create=False)
    cells = harness.plan(1)
    assert len(cells) > 400
    assert store.done() == {cell.key for cell in cells}
    assert results.validate(store) == []
    for cell in (cells[0], cells[1], next(c for c in cells if c.kind == "addition"), cells[-1]):
        assert store.read(cell.key).rows == _noop.record(cell).rows


def test_the_leaderboard_has_every_row(measured) -> None:
    scratch, _ = measured
    rows, _ = results.load(scratch / "boards", "mini8")
    additions = {cell.key for cell in harness.plan(1) if cell.kind == "addition"}
    assert additions <= set(rows["key"].to_pylist())


def test_the_committed_figures_are_of_ten_thousand_cells() -> None:
    found = json.loads((Path(harness.RESULTS)).read_text())
    assert found["cells"] >= 10_000
    assert found["stages"]["read, compacted"]["records"] == found["cells"]
