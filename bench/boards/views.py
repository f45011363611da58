"""Markdown of what stands beside the boards: negation, post-hoc linearisation, subsets, disentanglement, lambda."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from bench.boards.boards import POSTHOC as POSTHOC_NOTE
from bench.boards.columns import DASH, NEGATION, POSTHOC, Column, Entry, cells, number, of

Page = Mapping[str, Any]


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of lines with the same names."""
    if not lines:
        return "No rows."
    return tabulate(
        [list(line.values()) for line in lines], headers=list(lines[0]), tablefmt="github", disable_numparse=True
    )


def table(rows: Sequence[Entry], columns: Sequence[Column], *, ranked: bool = True) -> str:
    """Rows of a leaderboard as a Markdown table; the top tie group is bold."""
    return markdown([cells(of(columns, "md", ranked=ranked), row) for row in rows])


def further(page: Page) -> list[str]:
    """Blocks of every view that has results, each with the sentence that says how to read it."""
    blocks = []
    if page["negation"]:
        blocks += ["### Task negation", _negation_note(page), table(page["negation"], NEGATION)]
    if page["posthoc"]:
        blocks += ["### Post-hoc linearisation", POSTHOC_NOTE, table(page["posthoc"], POSTHOC)]
    if page["subsets"]:
        blocks += ["### Accuracy against the number of merged tasks", picture(page, "subsets", SUBSETS)]
        blocks += [subsets(page["subsets"], "accuracy"), NORMALISED, subsets(page["subsets"], "normalised")]
    if page["disentanglement"]:
        blocks += ["### Weight-disentanglement error", DISENTANGLEMENT, disentanglement(page["disentanglement"])]
    if page["strengths"]:
        blocks += ["### Accuracy against lambda", picture(page, "lambda", STRENGTHS), strengths(page["strengths"])]
    return blocks


def picture(page: Page, view: str, caption: str) -> str:
    """What a view shows, its picture, and the file with all its values."""
    name = page["suite"]
    return f"{caption} All values: [CSV]({name}/{view}.csv).\n\n![{view}]({name}/{view}.svg)"


SUBSETS = (
    "Accuracy in percent, mean over subsets of the tasks, the same ones for all rows of an operator, on the seeds that "
    "have most of them. Compare rows at one size: other sizes have other mixtures of tasks. 3/6: some of these subsets "
    "are not measured yet, so there is no mean."
)

NORMALISED = "The same, normalised by own experts:"

STRENGTHS = (
    "Test accuracy of the merged model in percent, by the strength of the regulariser that its experts were trained "
    "with, at the scaling coefficient that validation chose; bold: the strength that validation chose among the "
    "measured ones. The search costs all fine-tuning and merging of its points in seconds, one point only its own; "
    "the fraction counts measured of declared strengths."
)


DISENTANGLEMENT = (
    "Share of images whose prediction changes when a second task vector is added, summed over both tasks "
    "(Ortiz-Jimenez et al., 2023), mean over the coefficients in [0, 1] x [0, 1], the measured pairs and seeds; 0 is "
    "best. The maps are on the page."
)


def _negation_note(page: Page) -> str:
    first = page["negation"][0]
    return (
        f"Each task vector is subtracted; lower target accuracy is better while the control `{page['control']}` keeps "
        f"95 % of its zero-shot accuracy on validation. Zero-shot: target {number(first['target_zero_shot'])}, "
        f"control {number(first['control_zero_shot'])}. Interval, group and difference are the target's; "
        "the control's interval is over its images."
    )


def subsets(entries: Sequence[Mapping[str, Any]], value: str) -> str:
    """`accuracy` or another value of every curve by the number of merged tasks."""
    sizes = sorted({point["tasks"] for entry in entries for point in entry["points"]})
    lines = []
    for entry in entries:
        at = {point["tasks"]: point for point in entry["points"]}
        cells = {str(size): subset(at[size], value) if size in at else DASH for size in sizes}
        lines.append({"row": f"`{entry['name']}`", **cells, "seeds": len(entry["seeds"])})
    wanted = [str(max(p["wanted"] for entry in entries for p in entry["points"] if p["tasks"] == n)) for n in sizes]
    return markdown([*lines, {"row": "subsets", **dict(zip(map(str, sizes), wanted, strict=True)), "seeds": ""}])


def subset(point: Mapping[str, Any], value: str) -> str:
    """A value of one point; how many subsets it has where some are missing."""
    return number(point[value]) if point["measured"] == point["wanted"] else f"{point['measured']}/{point['wanted']}"


def disentanglement(entries: Sequence[Mapping[str, Any]]) -> str:
    """The mean error over the searched square of every fine-tuning method and mode."""
    return markdown(
        [
            {
                "fine-tuning": f"`{entry['finetuning']}`",
                "evaluated": entry["mode"] or "as trained",
                "mean error": number(entry["searched_error"], 3),
                "pairs": len(entry["pairs"]),
                "seeds": len(entry["seeds"]),
            }
            for entry in sorted(entries, key=lambda e: (e["searched_error"], e["finetuning"], e["mode"]))
        ]
    )


def strengths(entries: Sequence[Mapping[str, Any]]) -> str:
    """Test accuracy by lambda, the chosen one bold, and the price of the search beside that of one point."""
    every = sorted({point["strength"] for entry in entries for point in entry["curve"]})
    lines = []
    for entry in entries:
        at = {point["strength"]: point for point in entry["curve"]}
        cells = {}
        for value in every:
            text = strength(at[value]) if value in at else DASH
            cells[f"{value:g}"] = f"**{text}**" if value == entry["chosen"] else text
        lines.append({"row": f"`{entry['name']}`", **cells, **price(entry)})
    return markdown(lines)


def strength(point: Mapping[str, Any]) -> str:
    """Test accuracy at one strength; how many tasks it has where some are missing."""
    missing = point["test"] is None
    return f"{point['measured']}/{point['wanted']}" if missing else number(point["test"])


def price(entry: Mapping[str, Any]) -> dict[str, str]:
    """Columns about one search: strengths measured, seconds of all, of the chosen one alone, and their ratio."""
    whole, one = entry["search_seconds"], entry["chosen_seconds"]
    return {
        "strengths": f"{entry['measured']}/{entry['declared']}",
        "search, s": number(whole, 0),
        "one point, s": number(one, 0),
        "price": f"{whole / one:.1f} x" if whole and one else DASH,
    }
