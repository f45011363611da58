"""Markdown of what stands beside the boards: negation, post-hoc linearisation, subsets, disentanglement, lambda."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from bench.leaderboard.boards import POSTHOC, Entry

DASH = "–"
Page = Mapping[str, Any]


def number(value: float | None, digits: int = 2) -> str:
    """So many decimals, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """`[70.10, 71.30]`, or a dash."""
    return DASH if low is None or high is None else f"[{low:.2f}, {high:.2f}]"


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of lines with the same names."""
    if not lines:
        return "No rows."
    return tabulate(
        [list(line.values()) for line in lines], headers=list(lines[0]), tablefmt="github", disable_numparse=True
    )


def further(page: Page) -> list[str]:
    """Blocks of every view that has results, each with the sentence that says how to read it."""
    blocks = []
    if page["negation"]:
        blocks += ["### Task negation", _negation_note(page), negation(page["negation"])]
    if page["posthoc"]:
        blocks += ["### Post-hoc linearisation", POSTHOC, posthoc(page)]
    if page["subsets"]:
        blocks += ["### Accuracy against the number of merged tasks", *subsets(page["subsets"])]
    if page["disentanglement"]:
        blocks += ["### Weight-disentanglement error", DISENTANGLEMENT, disentanglement(page["disentanglement"])]
    for entry in page["strengths"]:
        blocks += [f"### Lambda of {entry['finetuning']}, by {entry['operator']}", *strength(entry)]
    return blocks


DISENTANGLEMENT = (
    "Share of images whose prediction changes when a second task vector is added, summed over both tasks "
    "(Ortiz-Jimenez et al., 2023), mean over the coefficients in [0, 1] x [0, 1], the measured pairs and seeds; 0 is "
    "best. The maps are on the page."
)


def negation(rows: Sequence[Entry]) -> str:
    """Target and control accuracy of every fine-tuning method."""
    return markdown(
        [
            {
                "row": f"`{row['name']}`",
                "target accuracy ↓": number(row["target"]),
                "control accuracy": number(row["control"]),
                "scaling": row["scaling"],
                "tasks": row["complete"],
                "seeds": len(row["seeds"]) or DASH,
            }
            for row in rows
        ]
    )


def _negation_note(page: Page) -> str:
    first = page["negation"][0]
    return (
        f"Each task vector is subtracted; lower target accuracy is better while the control `{page['control']}` keeps "
        f"95 % of its zero-shot accuracy on validation. Zero-shot: target {number(first['target_zero_shot'])}, "
        f"control {number(first['control_zero_shot'])}."
    )


def posthoc(page: Page) -> str:
    """Merges evaluated as tangent models, beside the same merges as they are."""
    return markdown(
        [
            {
                "row": f"`{row['name']}`",
                "linearised": number(row["accuracy"]),
                "95 % interval": row["reason"] or interval(row["low"], row["high"]),
                "normalised (own)": number(row["normalised"]),
                "normalised (common)": number(row["normalised_common"]),
                "as it is": number(row["as_it_is"]),
                "scaling": row["scaling"],
                "tasks": row["complete"],
                "seeds": len(row["seeds"]) or DASH,
            }
            for row in page["posthoc"]
        ]
    )


def subsets(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Normalised accuracy by the number of merged tasks, one row a line of the chart."""
    sizes = sorted({point["tasks"] for entry in found for point in entry["points"]})
    lines = []
    for entry in found:
        at = {point["tasks"]: point for point in entry["points"]}
        cells = {str(size): number(at[size]["normalised"]) if size in at else DASH for size in sizes}
        lines.append({"row": f"`{entry['name']}`", **cells})
    merges = {
        size: sorted({p["merges"] for entry in found for p in entry["points"] if p["tasks"] == size}) for size in sizes
    }
    counts = ", ".join(f"{'–'.join(map(str, merges[size]))} of {size}" for size in sizes)
    note = (
        "Accuracy normalised by own experts, in percent, mean over the measured subsets of every size, on the seeds "
        f"that all sizes have. Merges behind every figure: {counts} tasks."
    )
    return [note, markdown(lines)]


def disentanglement(found: Sequence[Mapping[str, Any]]) -> str:
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
            for entry in sorted(found, key=lambda e: (e["searched_error"], e["finetuning"], e["mode"]))
        ]
    )


def strength(entry: Mapping[str, Any]) -> list[str]:
    """Accuracy against lambda, the chosen one bold, and the price of the search."""
    lines = [
        {
            "lambda": f"**{p['strength']:g}**" if p["strength"] == entry["chosen"] else f"{p['strength']:g}",
            "validation": number(p["validation"]),
            "test": number(p["test"]),
            "measured": f"{p['measured']}/{p['wanted']}",
        }
        for p in entry["curve"]
    ]
    note = (
        "Mean accuracy of the merged model in percent by the strength its experts were trained with; validation chose "
        f"the bold one. Seconds of the whole search: {number(entry['search_seconds'], 0)}, of the chosen point alone: "
        f"{number(entry['chosen_seconds'], 0)}."
    )
    return [note, markdown(lines)]
