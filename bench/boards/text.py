"""Markdown of a leaderboard."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.boards.columns import BOARD, DASH, Entry, interval, number, variant
from bench.boards.views import further, markdown, table
from bench.ground.metrics import COMMON_REFERENCE

SHORT, LONG = 5, 40
"""Rows of a board in the project's README and in the leaderboards' own."""
USUAL = "validation-tuned"
"""The board that the project's README shows: most operators are on it."""


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
        blocks += ["### References", table(page["references"], BOARD, ranked=False)]
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


def sections(pages: Sequence[Mapping[str, Any]], folder: str) -> dict[str, str]:
    """What other pages show of the leaderboards, by the name in their markers; `folder` is how these pages link here.

    `<!-- NAME:begin -->` and `<!-- NAME:end -->` enclose a section.
    """
    if not pages:
        return dict.fromkeys(("leaderboard", "best", "effects", "extremes"), "No results yet.")
    effects = [(page["suite"], effect) for page in pages for effect in page["effects"]]
    nothing = "No regulariser has been measured yet."
    return {
        "leaderboard": "\n\n".join(block for page in pages for block in _short(page, folder)),
        "best": "\n\n".join(best(page["boards"]) for page in pages),
        "effects": "\n\n".join(b for suite, e in effects for b in (_counted(e, folder, suite), effect_counts(e)))
        or nothing,
        "extremes": "\n\n".join(b for _, e in effects for b in (_effect_note(e), effect_extremes(e))) or nothing,
    }


def marked(text: str, found: Mapping[str, str]) -> str | None:
    """`text` with every section between its markers; None where `text` has no markers."""
    some = False
    for name, section in found.items():
        begin, end = markers(name)
        before, opened, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if opened and closed:
            text, some = f"{before}{begin}\n\n{section}\n\n{end}{after}", True
    return text if some else None


def markers(name: str = "leaderboard") -> tuple[str, str]:
    """What stands before and after a section."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def _short(page: Mapping[str, Any], folder: str) -> list[str]:
    """One board of a suite in few rows and columns, the two ends of the scale, and where everything is."""
    boards = sorted(page["boards"], key=lambda board: board["board"] != USUAL)
    ranked = [row for row in boards[0]["rows"] if row["rank"]] if boards else []
    rows = ", ".join(f"{board['title']} {_count(board['rows'])}" for board in boards)
    links = (
        f"All boards (rows: {rows}): [tables]({folder}/README.md), [one page to open from disk]"
        f"({folder}/{page['suite']}/index.html), [CSV]({folder}/{page['suite']}/table.csv)."
    )
    if not ranked:
        return [f"**{page['suite']}**: no merged model has been measured on all tasks yet."]
    table = markdown(
        [
            {
                "#": row["rank"],
                "fine-tuning": f"`{row['finetuning']}`",
                "merging": f"`{variant(row)}`",
                "accuracy, %": f"**{number(row['accuracy'])}**" if row["group"] == 1 else number(row["accuracy"]),
                "95 % interval": interval(row["low"], row["high"]),
                "to first": number(row["difference"]),
            }
            for row in ranked[:SHORT]
        ]
    )
    count = f"the first {len(ranked[:SHORT])} of {_count(boards[0]['rows'])} rows"
    return [f"**{page['suite']}, {boards[0]['title']}**, {count}:", table, _ends(page["references"]) + links]


def best(boards: Sequence[Mapping[str, Any]]) -> str:
    """Fine-tuning methods by boards: the operator of the most accurate row, and its accuracy."""
    first: dict[str, dict[str, str]] = {}
    for board in boards:
        for row in board["rows"]:  # ranked ones come first, the most accurate one before the others
            if row["rank"]:
                said = f"`{variant(row)}` {number(row['accuracy'])}"
                first.setdefault(row["finetuning"], {}).setdefault(board["title"], said)
    titles = [board["title"] for board in boards]
    return markdown(
        [
            {"fine-tuning": f"`{method}`", **{title: first[method].get(title, DASH) for title in titles}}
            for method in sorted(first)
        ]
    )


def _count(rows: Sequence[Entry]) -> int:
    return sum(not row["reason"] for row in rows)


def _ends(references: Sequence[Entry]) -> str:
    """One sentence: what the untouched model and the plain experts reach."""
    at = {row["name"]: number(row["accuracy"]) for row in references if row["accuracy"] is not None}
    known = (
        ("zero-shot", "the pretrained model without any fine-tuning reaches {} %"),
        (f"{COMMON_REFERENCE}/expert", f"one `{COMMON_REFERENCE}` expert for each task, not merged, reaches {{}} %"),
    )
    said = [text.format(at[name]) for name, text in known if name in at]
    return f"For scale: {'; '.join(said)}. " if said else ""


def _first(rows: Sequence[Entry], count: int, everything: str) -> list[str]:
    """The first rows of a board as a table, how many more there are, and what is not applicable, operator by operator.

    A board of hundreds of rows is for the page and the CSV; what a table leaves out, it says.
    """
    real = [row for row in rows if not row["reason"]]
    blocks = [table(real[:count], BOARD)] if real else []
    if len(real) > count:
        blocks.append(f"The first {count} of {len(real)} rows; {everything}, also on the page.")
    return blocks + inapplicable(rows)


def inapplicable(rows: Sequence[Entry]) -> list[str]:
    """One block that names the rows that cannot exist and why; nothing where there are none."""
    methods: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["reason"]:
            methods.setdefault((variant(row), row["reason"]), []).append(row["finetuning"])
    lines = [
        f"* `{operator}` on {', '.join(f'`{m}`' for m in dict.fromkeys(on))}: {reason}"
        for (operator, reason), on in methods.items()
    ]
    return ["Not applicable:\n\n" + "\n".join(lines)] if lines else []


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


def effect_counts(effect: Mapping[str, Any]) -> str:
    """One line a fine-tuning method: on how many operators the regulariser helps, and how much in the middle."""
    lines = []
    for method, cells in _by_method(effect):
        clear = [cell["difference"] for cell in cells if cell["significant"]]
        usual = [cell["difference"] for cell in cells if cell["operator"] == "task_arithmetic"]
        lines.append(
            {
                "fine-tuning": f"`{method}`",
                "operators": len(cells),
                "better": sum(d > 0 for d in clear),
                "worse": sum(d < 0 for d in clear),
                "no clear difference": len(cells) - len(clear),
                "median difference": f"{statistics.median(cell['difference'] for cell in cells):+.2f}",
                "task arithmetic": f"{usual[0]:+.2f}" if usual else DASH,
            }
        )
    return markdown(lines)


def effect_extremes(effect: Mapping[str, Any]) -> str:
    """One line a fine-tuning method: the operators that gain and lose most, significant ones bold."""
    lines = []
    for method, cells in _by_method(effect):
        order = sorted(cells, key=lambda cell: (-cell["difference"], cell["operator"]))
        lines.append(
            {
                "fine-tuning": f"`{method}`",
                "gain most": _named(cell for cell in order[:3] if cell["difference"] > 0),
                "lose most": _named(cell for cell in order[:-4:-1] if cell["difference"] < 0),
                "within 1 point": f"{sum(abs(cell['difference']) < 1 for cell in cells)} of {len(cells)}",
            }
        )
    return markdown(lines)


def _by_method(effect: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    return [(method, [c for c in effect["cells"] if c["method"] == method]) for method in effect["methods"]]


def _named(cells: Iterable[Mapping[str, Any]]) -> str:
    shown = []
    for cell in cells:
        value = f"{cell['difference']:+.2f}"
        shown.append(f"`{cell['operator']}` {f'**{value}**' if cell['significant'] else value}")
    return ", ".join(shown) or DASH


def _effect_note(effect: Mapping[str, Any]) -> str:
    return (
        f"Accuracy with {effect['regulariser']} minus without it on {effect['backbone']}, in points, paired by image "
        f"and seed. Bold: p < 0.05 after Holm over these {len(effect['cells'])} differences."
    )


def _counted(effect: Mapping[str, Any], folder: str, suite: str) -> str:
    """What the table of counts says."""
    return (
        f"Accuracy with `{effect['regulariser']}` minus accuracy without it on `{effect['backbone']}`, in points. The "
        "columns better and worse count the operators whose difference is significant (p < 0.05 after Holm over all "
        f"{len(effect['cells'])} differences). All differences with intervals: [CSV]({folder}/{suite}/effect.csv), "
        f"[picture]({folder}/{suite}/effect.svg)."
    )
