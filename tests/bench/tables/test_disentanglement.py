"""Every number here is worked by hand."""

import json

import pyarrow as pa
import pytest

from bench.errors import BenchError
from bench.store.records import CELLS, Cells
from bench.tables.disentanglement import disentanglement

WHERE = {"kind": "disentangle", "suite": "s", "backbone": "b"}


def cells(
    *found: tuple[str, int, list[str], list[list[float]]], grid: tuple[float, ...] = (-1.0, 0.0, 1.0)
) -> pa.Table:
    lines = [
        {
            "key": f"{grid[0]} {i}",
            "kind": "disentangle",
            "identity": json.dumps({**WHERE, "finetuning": name, "mode": "", "seed": seed}),
            "metrics": json.dumps({"tasks": tasks, "coefficients": grid, "error": error}),
            "provenance": "{}",
        }
        for i, (name, seed, tasks, error) in enumerate(found)
    ]
    return pa.Table.from_pylist(lines, schema=CELLS)


ONE = [[1.0, 0.5, 1.0], [0.5, 0.0, 0.2], [1.0, 0.4, 0.6]]
TWO = [[0.0, 0.5, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.2]]


def test_mean_over_pairs_and_inside_the_searched_square() -> None:
    """Inside [0, 1]: 0, .1, .2 and .4 on average."""
    (found,) = disentanglement(Cells(cells(("att", 0, ["x", "y"], ONE), ("att", 1, ["x", "z"], TWO))))
    assert found["error"] == [[0.5, 0.5, 0.5], [0.5, 0.0, 0.1], [0.5, 0.2, 0.4]]
    assert found["searched_error"] == 0.175
    assert (found["pairs"], found["seeds"], found["cells"]) == (["x x y", "x x z"], [0, 1], 2)


def test_methods_stand_apart_and_sorted() -> None:
    found = disentanglement(Cells(cells(("tta", 0, ["x", "y"], ONE), ("att", 0, ["x", "y"], TWO))))
    assert [(e["finetuning"], e["searched_error"]) for e in found] == [("att", 0.05), ("tta", 0.3)]


def test_other_grids_are_not_averaged() -> None:
    both = pa.concat_tables(
        [cells(("att", 0, ["x", "y"], ONE)), cells(("att", 1, ["x", "y"], ONE), grid=(-2.0, 0.0, 2.0))]
    )
    with pytest.raises(BenchError, match="measured on 2 grids"):
        disentanglement(Cells(both))


def test_nothing_measured() -> None:
    assert disentanglement(Cells(CELLS.empty_table())) == []
