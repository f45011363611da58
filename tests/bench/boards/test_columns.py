"""Columns by hand: what people read, what programs read, and which rendering has which."""

import pytest

from bench.boards import columns
from bench.boards.columns import BOARD, DASH

ROW = {
    "rank": 2, "group": 1, "name": "att/ties", "accuracy": 71.3, "low": 70.1, "high": 72.4, "normalised": 90.0,
    "normalised_common": 88.0, "difference": -0.5, "scaling": "0.3", "complete": "8/8", "seeds": [0, 2],
}  # fmt: skip


def test_people_read_two_decimals_and_the_lower_end_first() -> None:
    assert columns.cells(columns.of(BOARD, "md"), ROW) == {
        "#": "2", "group": "1", "row": "`att/ties`", "accuracy": "**71.30**", "95 % interval": "[70.10, 72.40]",
        "normalised (own)": "90.00", "normalised (common)": "88.00", "to first": "-0.50", "scaling": "0.3",
        "tasks": "8/8", "seeds": "2",
    }  # fmt: skip


@pytest.mark.parametrize(("group", "text"), [(1, "**71.30**"), (2, "71.30"), (None, "71.30")])
def test_the_whole_first_group_is_bold(group: int | None, text: str) -> None:
    assert columns.cells(columns.of(BOARD, "md"), ROW | {"group": group})["accuracy"] == text


def test_what_is_not_there_is_a_dash() -> None:
    assert columns.number(None) == columns.interval(None, 1.0) == columns.chance(None) == DASH
    assert columns.number(1.25, 1) == "1.2"
    assert [columns.chance(p) for p in (0.0004, 0.25)] == ["<0.001", "0.250"]


def test_rows_without_a_rank_have_no_columns_of_ranks() -> None:
    ranks = {"rank", "group", "difference", "p", "scaling"}
    ranked, plain = ({c.key for c in columns.of(BOARD, "html", ranked=r)} for r in (True, False))
    assert ranked & ranks == ranks
    assert plain == ranked - ranks


def test_programs_read_which_seeds() -> None:
    (seeds,) = (c for c in columns.of(BOARD, "csv") if c.key == "seeds")
    assert seeds.plain(ROW) == "0+2"
