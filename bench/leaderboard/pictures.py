"""The accuracy picture, as SVG and PNG: every ranked row with its interval, zero-shot and experts as lines.

Matplotlib is imported here only. The files carry no date, and a digest of what was drawn, because another version of
matplotlib draws the same numbers with other bytes.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999999")
"""Colours that people with any colour vision tell apart (Okabe and Ito, 2008)."""
MOST_ROWS = 40
_MARK = re.compile(rb"bench-digest:([0-9a-f]{16})")


def accuracy(page: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `accuracy.svg` and `accuracy.png` of one suite."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for board in page["boards"] for row in board["rows"] if row["accuracy"] is not None]
    shown = sorted(rows, key=lambda r: (-r["accuracy"], r["name"]))[:MOST_ROWS]
    mark = f"bench-digest:{digest(page)}"
    with matplotlib.rc_context({"svg.hashsalt": "bench", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(8, 1.6 + 0.24 * max(4, len(shown))), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw(axes, page, shown, len(rows))
        files = [folder / "accuracy.svg", folder / "accuracy.png"]
        figure.savefig(files[0], metadata={"Date": None, "Creator": "bench", "Description": mark})
        figure.savefig(files[1], dpi=150, metadata={"Software": "bench", "Description": mark})
    return files


def digest(page: Mapping[str, Any]) -> str:
    """16 hex digits of everything the picture shows."""
    shown = [[r["name"], r["accuracy"], r["low"], r["high"]] for b in page["boards"] for r in b["rows"]]
    shown += [[r["name"], r["accuracy"]] for r in page["references"]]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


def digest_in(data: bytes) -> str:
    """The digest that a written picture carries; empty if none."""
    found = _MARK.search(data)
    return found.group(1).decode() if found else ""


def _draw(axes: Any, page: Mapping[str, Any], shown: list[dict[str, Any]], total: int) -> None:
    methods = sorted({row["finetuning"].partition("+")[0] for row in shown})
    colour = {method: OKABE_ITO[i % len(OKABE_ITO)] for i, method in enumerate(methods)}
    places = {id(row): place for place, row in enumerate(reversed(shown))}
    for name in sorted({row["finetuning"] for row in shown}):  # one call for each kind of row
        method, _, regulariser = name.partition("+")
        rows = [row for row in shown if row["finetuning"] == name]
        values = [row["accuracy"] for row in rows]
        low = [v - (row["low"] if row["low"] is not None else v) for v, row in zip(values, rows, strict=True)]
        high = [(row["high"] if row["high"] is not None else v) - v for v, row in zip(values, rows, strict=True)]
        style = {"color": colour[method], "mfc": colour[method] if regulariser else "white"}
        axes.errorbar(values, [places[id(row)] for row in rows], xerr=[low, high], fmt="o", ms=5, lw=1.2, **style)
    axes.set_yticks(range(len(shown)), [row["name"] for row in reversed(shown)])
    for row in page["references"]:
        if row["accuracy"] is not None and row["name"] in ("zero-shot", "nonlinear/expert"):
            axes.axvline(row["accuracy"], color="#666666", lw=1, ls=":" if row["name"] == "zero-shot" else "--")
            axes.annotate(row["name"], (row["accuracy"], 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                          textcoords="offset points", ha="center", color="#444444")  # fmt: skip
    if not shown:
        axes.text(0.5, 0.5, "no complete rows yet", ha="center", transform=axes.transAxes)
    axes.set_ylim(-0.7, max(len(shown), 1) - 0.3)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    some = f", the best {len(shown)} of {total} rows" if len(shown) < total else ""
    axes.set_xlabel(
        f"mean accuracy over {len(page['tasks'])} tasks, %, with 95 % interval (filled: with a regulariser){some}"
    )
    axes.set_title(page["suite"], loc="left", pad=16)
