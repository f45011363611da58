"""The accuracy picture, as SVG and PNG: every complete row with its interval, zero-shot and experts as lines.

Matplotlib is imported here only. The files carry no date, and a digest of what was drawn, because another version of
matplotlib draws the same numbers with other bytes.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.boards.columns import variant

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999999")
"""Colours that people with any colour vision tell apart (Okabe and Ito, 2008)."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_MARK = re.compile(rb"bench-digest:([0-9a-f]{16})")


def accuracy(page: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `accuracy.svg` and `accuracy.png` of one suite."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [[r["name"], r["accuracy"], r["low"], r["high"]] for b in page["boards"] for r in b["rows"]]
    said = mark([*shown, *([r["name"], r["accuracy"]] for r in page["references"])])
    with matplotlib.rc_context({"svg.hashsalt": "bench", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, page)
        files = [folder / "accuracy.svg", folder / "accuracy.png"]
        figure.savefig(files[0], metadata={"Date": None, "Creator": "bench", "Description": said})
        figure.savefig(files[1], dpi=150, metadata={"Software": "bench", "Description": said})
    return files


def draw(figure: Any, page: Mapping[str, Any]) -> None:
    """The picture on a matplotlib figure: one part per board, operators downwards, the best on top."""
    boards = [(b["title"], [row for row in b["rows"] if row["accuracy"] is not None]) for b in page["boards"]]
    boards = [(title, rows) for title, rows in boards if rows] or [("", [])]
    operators = [list(dict.fromkeys(variant(row) for row in rows)) for _, rows in boards]
    methods = sorted({row["finetuning"] for _, rows in boards for row in rows})
    heights = [max(2, len(names)) for names in operators]
    figure.set_size_inches(8, 1.6 + 0.34 * sum(heights) + 0.6 * len(boards))
    grid = figure.subplots(len(boards), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, (title, rows), names in zip(grid[:, 0], boards, operators, strict=True):
        _draw(axes, rows, names, methods)
        _references(axes, page)
        axes.set_title(", ".join(filter(None, (page["suite"], title))), loc="left", pad=16)
    grid[-1, 0].set_xlabel(f"mean accuracy over {len(page['tasks'])} tasks, %, with 95 % interval")
    if methods:
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)


def mark(shown: Any) -> str:
    """What a written picture says about itself: 16 hex digits of every number in it."""
    return f"bench-digest:{hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]}"


def digest_in(data: bytes) -> str:
    """The digest that a written picture carries; empty if none."""
    found = _MARK.search(data)
    return found.group(1).decode() if found else ""


def _draw(axes: Any, rows: Sequence[Mapping[str, Any]], operators: Sequence[str], methods: Sequence[str]) -> None:
    """One line per operator, the best on top; one mark per fine-tuning method, filled with a regulariser."""
    bases = list(dict.fromkeys(name.partition("+")[0] for name in methods))
    for place, name in enumerate(methods):  # one call for each method; marks of one line stand apart
        base, _, regularizer = name.partition("+")
        mine = [row for row in rows if row["finetuning"] == name]
        values = [row["accuracy"] for row in mine]
        low = [v - (row["low"] if row["low"] is not None else v) for v, row in zip(values, mine, strict=True)]
        high = [(row["high"] if row["high"] is not None else v) - v for v, row in zip(values, mine, strict=True)]
        shift = 0.3 - 0.6 * place / max(1, len(methods) - 1)
        at = [len(operators) - 1 - operators.index(variant(row)) + shift for row in mine]
        colour = OKABE_ITO[bases.index(base) % len(OKABE_ITO)]
        fill = colour if regularizer else "white"
        axes.errorbar(
            values,
            at,
            xerr=[low, high],
            fmt=MARKS[bases.index(base) % len(MARKS)],
            ms=4,
            lw=1,
            color=colour,
            mfc=fill,
            label=name,
        )
    axes.set_yticks(range(len(operators)), list(reversed(operators)))
    if not rows:
        axes.text(0.5, 0.5, "no complete rows yet", ha="center", transform=axes.transAxes)
    axes.set_ylim(-0.6, max(len(operators), 1) - 0.4)
    for border in range(1, len(operators)):
        axes.axhline(border - 0.5, color="#eeeeee", lw=0.8)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _references(axes: Any, page: Mapping[str, Any]) -> None:
    for row in page["references"]:
        if row["accuracy"] is not None and row["name"] in ("zero-shot", "nonlinear/expert"):
            axes.axvline(row["accuracy"], color="#666666", lw=1, ls=":" if row["name"] == "zero-shot" else "--")
            axes.annotate(
                row["name"],
                (row["accuracy"], 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                color="#444444",
            )
