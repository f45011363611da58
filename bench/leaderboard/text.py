"""Markdown, CSV and JSON of a leaderboard."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from bench.leaderboard.boards import Entry
from bench.leaderboard.views import DASH, further, interval, markdown, number

BEGIN, END = "<!-- leaderboard:begin -->", "<!-- leaderboard:end -->"
SHORT, LONG = 5, 40
"""Rows of a board in the project's README and in the leaderboards' own."""

_CSV = (
    "board", "backbone", "rank", "group", "name", "finetuning", "operator", "options", "protocol", "accuracy", "low",
    "high", "normalised", "normalised_common", "difference", "difference_low", "difference_high", "p", "complete",
    "seeds", "scaling", "reason",
)  # fmt: skip


def readme(pages: Sequence[Mapping[str, Any]]) -> str:
    """`leaderboards/README.md`: every board of every suite in full."""
    parts = [
        "# Leaderboards",
        "Written by `bench leaderboard build` from the Parquet files beside it; `bench leaderboard check` compares.",
    ]
    if not pages:
        parts.append("No results yet. `bench run`, then `bench leaderboard build`.")
    for page in pages:
        parts += suite(page)
    return "\n\n".join(parts) + "\n"


def suite(page: Mapping[str, Any]) -> list[str]:
    """Markdown blocks of one suite."""
    name = page["suite"]
    blocks = [f"## {name}", f"![Accuracy of every row]({name}/accuracy.svg)"]
    blocks += [
        f"Tasks: {', '.join(page['tasks'])}. Accuracy is the mean over tasks and seeds, in percent, with a 95 % "
        "interval. Rows of one group cannot be told from its first row (paired test, Holm over the board). "
        + page["explanation"],
        f"[Interactive page]({name}/index.html) · [CSV]({name}/table.csv) · [LaTeX]({name}/table.tex)",
    ]
    for board in page["boards"]:
        blocks += [f"### {board['title']}", *_first(board["rows"], LONG, f"[all of them]({name}/table.csv)")]
    if page["references"]:
        blocks += ["### References", board_table(page["references"], ranked=False)]
    for effect in page["effects"]:
        note = (
            _effect_note(effect)
            + f" With intervals and p: [CSV]({name}/effect.csv); as a [picture]({name}/effect.svg)."
        )
        blocks += [f"### What {effect['regulariser']} does", note, effect_table(effect)]
    blocks += further(page)
    if page["notes"]:
        blocks.append("\n".join(f"* {note}" for note in page["notes"]))
    if page["sources"]:
        blocks.append("Measured on: " + "; ".join(page["sources"]) + ".")
    return blocks


def short(pages: Sequence[Mapping[str, Any]], folder: str) -> str:
    """The table between the markers of the project's README: the first rows of every board and the references."""
    parts = []
    for page in pages:
        for board in page["boards"]:
            parts.append(f"**{page['suite']}, {board['title']}**")
            parts += _first(board["rows"], SHORT, f"[all of them]({folder}/{page['suite']}/table.csv)")
        if page["references"]:
            parts += ["References:", board_table(page["references"], ranked=False)]
        parts.append(page["explanation"])
    parts.append(f"All rows: [{folder}/README.md]({folder}/README.md)." if pages else "No results yet.")
    return "\n\n".join(parts)


def between_markers(text: str, table: str) -> str | None:
    """`text` with `table` between the markers; None where the markers are missing."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}" if found and closed else None


def _first(rows: Sequence[Entry], count: int, everything: str) -> list[str]:
    """The first rows of a board as a table, how many more there are, and what is not applicable, operator by operator.

    A board of hundreds of rows is for the page and the CSV; what a table leaves out, it says.
    """
    real = [row for row in rows if not row["reason"]]
    blocks = [board_table(real[:count])] if real else []
    if len(real) > count:
        blocks.append(f"The first {count} of {len(real)} rows; {everything}, also on the page.")
    return blocks + inapplicable(rows)


def inapplicable(rows: Sequence[Entry]) -> list[str]:
    """One block that names the rows that cannot exist and why; nothing where there are none."""
    methods: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["reason"]:
            methods.setdefault((row["name"].partition("/")[2], row["reason"]), []).append(row["finetuning"])
    lines = [
        f"* `{operator}` on {', '.join(f'`{m}`' for m in dict.fromkeys(on))}: {reason}"
        for (operator, reason), on in methods.items()
    ]
    return ["Not applicable:\n\n" + "\n".join(lines)] if lines else []


def board_table(rows: Sequence[Entry], *, ranked: bool = True) -> str:
    """One board as a Markdown table; the top tie group is bold."""
    lines = []
    for row in rows:
        value = number(row["accuracy"])
        line = {
            "#": row["rank"] or DASH,
            "group": row["group"] or DASH,
            "row": f"`{row['name']}`",
            "accuracy": f"**{value}**" if row["group"] == 1 else value,
            "95 % interval": interval(row["low"], row["high"]),
            "normalised (own)": number(row["normalised"]),
            "normalised (common)": number(row["normalised_common"]),
            "to first": number(row["difference"]),
            "scaling": row["scaling"],
            "tasks": row["complete"],
            "seeds": len(row["seeds"]) or DASH,
        }
        if not ranked:
            line = {k: v for k, v in line.items() if k not in ("#", "group", "to first", "scaling")}
        lines.append(line)
    return markdown(lines)


def effect_table(effect: Mapping[str, Any]) -> str:
    """Operators by fine-tuning methods: accuracy with minus without the regulariser, significant ones bold."""
    at = {(c["operator"], c["method"]): c for c in effect["cells"]}
    unable = set(map(tuple, effect["inapplicable"]))
    lines = []
    for operator in effect["operators"]:
        line = {"operator": f"`{operator}`"}
        for method in effect["methods"]:
            cell = at.get((operator, method))
            text = f"{cell['difference']:+.2f}" if cell else "n/a" if (method, operator) in unable else DASH
            line[method] = f"**{text}**" if cell and cell["significant"] else text
        lines.append(line)
    return markdown(lines)


def table_csv(page: Mapping[str, Any]) -> str:
    """Every row of every board, references included; one column per task at the end."""
    tasks = page["tasks"]
    lines = []
    for row in [r for board in page["boards"] for r in board["rows"]] + page["references"]:
        plain = {**row, "seeds": "+".join(map(str, row["seeds"])), "p": None if row["p"] is None else str(row["p"])}
        lines.append([plain[name] for name in _CSV] + [row["by_task"][task] for task in tasks])
    return _csv([*_CSV, *(f"accuracy:{task}" for task in tasks)], lines)


def effect_csv(page: Mapping[str, Any]) -> str:
    """Every difference of the effect maps, in points; p is adjusted for all of one map."""
    values = ("method", "operator", "difference", "low", "high")
    lines = [
        [effect["backbone"], effect["regulariser"], *map(cell.get, values), str(cell["p"])]
        for effect in page["effects"]
        for cell in effect["cells"]
    ]
    return _csv(["backbone", "regulariser", *values, "p"], lines)


def subsets_csv(page: Mapping[str, Any]) -> str:
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


def lambda_csv(page: Mapping[str, Any]) -> str:
    """Every point of every curve over lambda; the seconds are those of the whole search and of the chosen point."""
    lines = []
    for entry in page["strengths"]:
        price = [f"{entry['measured']}/{entry['declared']}", entry["search_seconds"], entry["chosen_seconds"]]
        for p in entry["curve"]:
            measured, chosen = f"{p['measured']}/{p['wanted']}", "chosen" if p["strength"] == entry["chosen"] else ""
            lines.append([entry["name"], f"{p['strength']:g}", p["validation"], p["test"], measured, chosen, *price])
    heads = [
        "name",
        "lambda",
        "validation",
        "test",
        "measured",
        "chosen",
        "strengths",
        "search_seconds",
        "chosen_seconds",
    ]
    return _csv(heads, lines)


def _csv(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Numbers with two decimals, nothing where there is none."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(heads)
    for line in lines:
        writer.writerow(["" if v is None else f"{v:.2f}" if isinstance(v, float) else v for v in line])
    return sink.getvalue()


def _effect_note(effect: Mapping[str, Any]) -> str:
    return (
        f"Accuracy with {effect['regulariser']} minus without it on {effect['backbone']}, in points, paired by image "
        f"and seed. Bold: p < 0.05 after Holm over these {len(effect['cells'])} differences."
    )
