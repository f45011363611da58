"""Every number here is worked by hand."""

import json
from typing import Any

import pyarrow as pa
import pytest

from bench.errors import BenchError
from bench.store.records import CELLS, SCHEMA, Cells
from bench.tables.strength import best_strength, sensitivity


def test_best_strength_by_hand() -> None:
    """Means .5, .6, .6: the tie goes to the smaller strength."""
    assert best_strength({0.0: {"a": 0.4, "b": 0.6}, 1.0: {"a": 0.6, "b": 0.6}, 0.1: {"a": 0.9, "b": 0.3}}) == 0.1


def test_strengths_are_compared_on_the_same_entries() -> None:
    with pytest.raises(BenchError, match="same tasks and seeds"):
        best_strength({0.0: {"a": 0.4}, 1.0: {"a": 0.6, "b": 0.6}})
    with pytest.raises(BenchError, match="no points"):
        best_strength({})


def row(key: str, strength: float, task: str, split: str, correct: int, **more: Any) -> dict[str, Any]:
    fixed = {name: "" for name in SCHEMA.names if pa.types.is_string(SCHEMA.field(name).type)}
    where = {"kind": "strength", "suite": "toy", "backbone": "toy", "finetuning": "att+orthoreg", "operator": "ties"}
    what = {"key": key, "options": json.dumps({"strength": strength}), "task": task, "split": split, "seed": 0}
    return {
        **fixed,
        **where,
        **what,
        "scaling": 0.5,
        "selected": True,
        "correct": correct,
        "total": 10,
        "bits": b"",
        **more,
    }


def tables(rows: list[dict[str, Any]], cells: dict[str, tuple[list[str], float | None]]) -> tuple[pa.Table, Cells]:
    lines = [
        {
            "key": key,
            "kind": "strength",
            "identity": json.dumps({"experts": needs}),
            "metrics": "{}",
            "provenance": json.dumps({"seconds": seconds}),
        }
        for key, (needs, seconds) in cells.items()
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA), Cells(pa.Table.from_pylist(lines, schema=CELLS))


ROWS = [
    row("zero", 0.0, "a", "validation", 5), row("zero", 0.0, "b", "validation", 5),
    row("zero", 0.0, "a", "validation", 9, selected=False, scaling=1.0),
    row("zero", 0.0, "a", "test", 8), row("zero", 0.0, "b", "test", 8),
    row("one", 1.0, "a", "validation", 7), row("one", 1.0, "b", "validation", 6),
    row("one", 1.0, "a", "test", 4), row("one", 1.0, "b", "test", 5),
]  # fmt: skip
PAID: dict[str, tuple[list[str], float | None]] = {
    "zero": (["e0", "shared"], 1.0),
    "one": (["e1", "shared"], 2.0),
    "e0": ([], 10.0),
    "e1": ([], 20.0),
    "shared": ([], 5.0),
}


def test_validation_chooses_and_the_price_counts_every_cell_once() -> None:
    """Validation prefers lambda 1, .65 to .5, though its test accuracy is lower. Search 1+2+10+20+5, chosen 2+20+5."""
    (found,) = sensitivity(*tables(ROWS, PAID))
    assert found["chosen"] == 1.0
    assert [(p["strength"], p["validation"], p["test"]) for p in found["curve"]] == [
        (0.0, 0.5, 0.8),
        (1.0, pytest.approx(0.65), pytest.approx(0.45)),
    ]
    assert (found["search_seconds"], found["chosen_seconds"]) == (38.0, 27.0)


def test_a_point_with_a_missing_task_is_shown_but_not_averaged_or_chosen() -> None:
    (found,) = sensitivity(*tables(ROWS[:-1], PAID))
    assert found["chosen"] == 0.0
    assert found["curve"][1] == {"strength": 1.0, "validation": None, "test": None, "measured": 1, "wanted": 2}


def test_a_price_that_is_not_known_whole_is_not_known() -> None:
    (found,) = sensitivity(*tables(ROWS, PAID | {"e0": ([], None)}))
    assert (found["search_seconds"], found["chosen_seconds"]) == (None, 27.0)


def test_measured_strengths_are_counted_among_the_declared() -> None:
    (found,) = sensitivity(*tables(ROWS, PAID))
    assert (found["name"], found["measured"], found["declared"]) == ("att+orthoreg/ties", 2, 7)


def test_no_points_no_entries() -> None:
    assert sensitivity(*tables([], {})) == []
