"""docs/tour.ipynb runs from top to bottom, and what it shows of the committed results is what they say now."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
READING = 6
"""Code cells that only read the committed results; what the others train may differ in the last bits elsewhere."""

nbformat = pytest.importorskip("nbformat", reason="the dev dependencies are not installed")


def texts(notebook):
    """What every code cell printed or returned, without pictures."""
    return [
        [out.get("text") or out["data"]["text/plain"] for out in cell.outputs if out.output_type != "display_data"]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_is_committed():
    committed = nbformat.read(DOCS / "tour.ipynb", as_version=4)
    fresh = runpy.run_path(str(DOCS / "run_tour.py"))["executed"]()
    assert texts(fresh)[:READING] == texts(committed)[:READING]
    assert [len(outputs) for outputs in texts(fresh)] == [len(outputs) for outputs in texts(committed)]


def test_the_notebook_is_committed_with_its_outputs_and_without_times():
    committed = nbformat.read(DOCS / "tour.ipynb", as_version=4)
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell.outputs) for cell in code) >= len(code) - 1
    assert all("execution" not in cell.metadata for cell in code)
    assert all(out.output_type != "error" for cell in code for out in cell.outputs)
