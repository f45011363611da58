"""CSV of a leaderboard: every row, and every point of what stands beside the boards."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from bench.boards.columns import BOARD, of


def table(page: Mapping[str, Any]) -> str:
    """Every row of every board, references included; one column per task at the end."""
    tasks, columns = page["tasks"], of(BOARD, "csv")
    rows = [row for board in page["boards"] for row in board["rows"]] + page["references"]
    lines = [[*(c.plain(row) for c in columns), *(row["by_task"][task] for task in tasks)] for row in rows]
    return _csv([*(c.key for c in columns), *(f"accuracy:{task}" for task in tasks)], lines)


def effect(page: Mapping[str, Any]) -> str:
    """Every difference of the effect maps, in points; p is adjusted for all of one map."""
    values = ("method", "operator", "difference", "low", "high")
    lines = [
        [effect["backbone"], effect["regulariser"], *map(cell.get, values), str(cell["p"])]
        for effect in page["effects"]
        for cell in effect["cells"]
    ]
    return _csv(["backbone", "regulariser", *values, "p"], lines)


def subsets(page: Mapping[str, Any]) -> str:
    """Every point of every curve over the number of merged tasks."""
    means = ("accuracy", "low", "high", "normalised", "normalised_common")
    lines = [
        [
            entry["name"],
            p["tasks"],
            f"{p['measured']}/{p['wanted']}",
            "+".join(map(str, entry["seeds"])),
            *map(p.get, means),
        ]
        for entry in page["subsets"]
        for p in entry["points"]
    ]
    return _csv(["name", "tasks", "subsets", "seeds", *means], lines)


def strengths(page: Mapping[str, Any]) -> str:
    """Every point of every curve over lambda; the seconds are those of the whole search and of the chosen point."""
    lines = []
    for entry in page["strengths"]:
        price = [f"{entry['measured']}/{entry['declared']}", entry["search_seconds"], entry["chosen_seconds"]]
        for p in entry["curve"]:
            measured, chosen = f"{p['measured']}/{p['wanted']}", "chosen" if p["strength"] == entry["chosen"] else ""
            lines.append([entry["name"], f"{p['strength']:g}", p["validation"], p["test"], measured, chosen, *price])
    return _csv(
        ["name", "lambda", "validation", "test", "measured", "chosen", "strengths", "search_seconds", "chosen_seconds"],
        lines,
    )


def _csv(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Numbers with two decimals, nothing where there is none."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(heads)
    for line in lines:
        writer.writerow(["" if v is None else f"{v:.2f}" if isinstance(v, float) else v for v in line])
    return sink.getvalue()
