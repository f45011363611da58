"""One self-contained HTML page per suite: no network, opens from disk, readable without JavaScript."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.boards import columns, published, svg, views
from bench.boards.boards import POSTHOC, Entry
from bench.boards.columns import interval, number
from bench.tables import subsets

ASSETS = Path(__file__).parents[1] / "assets" / "leaderboard"

SEEN = {
    "data-free": "These rows saw nothing but task vectors.",
    "validation-tuned": "These rows chose their coefficient on validation images.",
    "calibration": "These rows saw calibration images of every task.",
    "unlabelled-test": "These rows adapted on unlabelled test images.",
    "task-id": "These rows are told at inference which task an image belongs to.",
}


def page(found: Mapping[str, Any]) -> str:
    """The page of one suite as text."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    boards = [_board(number, board) for number, board in enumerate(found["boards"], 1)]
    effects = [_effect(effect) for effect in found["effects"]]
    rows = [row for board in found["boards"] for row in board["rows"]]
    drawn = {entry["finetuning"] for entry in (*rows, *found["subsets"], *found["strengths"])}
    bases = list(dict.fromkeys(sorted(name.partition("+")[0] for name in drawn)))
    styles = {name: _style(name, bases) for name in drawn}
    worst = max((v for e in found["disentanglement"] for row in e["error"] for v in row), default=0.0) or 1.0
    shown = {
        **found,
        "effects": effects,
        "references": [{**row, "edge": False} for row in found["references"]],
        "subsets": [{**entry, "by_size": {p["tasks"]: p for p in entry["points"]}} for entry in found["subsets"]],
        "explanation": found["explanation"].replace("`", ""),
        "posthoc_explanation": POSTHOC.replace("`", ""),
    }
    deepest = max((abs(v) for e in found["geometry"] for v in _off_diagonal(e["cosine"])), default=0.0) or 1.0
    return environment.get_template("page.html.j2").render(
        page=shown,
        boards=boards,
        reference_scale=_scale(found["references"]),
        tabs=_tabs(found, boards, rows),
        methods=[{"name": name, "style": style} for name, style in sorted(styles.items())],
        bases=[{"name": base, "mark": _mark(place)} for place, base in enumerate(bases)],
        several_backbones=len({row["backbone"] for row in rows}) > 1,
        curves=[_curves(entry, styles) for entry in found["curves"]],
        subsets=_subsets(found["subsets"], styles),
        strengths=[_strength(entry, styles) for entry in found["strengths"]],
        sizes=sorted({point["tasks"] for entry in found["subsets"] for point in entry["points"]}),
        lambdas=sorted({point["strength"] for entry in found["strengths"] for point in entry["curve"]}),
        views=views,
        columns=columns,
        cost=[chart for board in boards if (chart := _cost(board, bases))],
        heats=[_heat(entry, deepest) for entry in found["geometry"]],
        deepest=deepest,
        squares=[_square(entry, worst) for entry in found["disentanglement"]],
        worst=worst,
        published=published.load(),
        wbr=Markup("<wbr>"),
        whisker=lambda row, scale: svg.whisker(row["accuracy"], row["low"], row["high"], scale),
        style=Markup((ASSETS / "style.css").read_text(encoding="utf-8")),
        script=Markup((ASSETS / "page.js").read_text(encoding="utf-8")),
    )


def _board(number: int, board: Mapping[str, Any]) -> dict[str, Any]:
    """The board with its place on the page; a line is drawn where the top group ends."""
    rows = board["rows"]
    last = max((i for i, row in enumerate(rows) if row["group"] == 1), default=-1)
    marked = [{**row, "edge": i == last + 1 > 0} for i, row in enumerate(rows)]
    seen = SEEN.get(board["board"], "")
    return {**board, "rows": marked, "id": f"board-{number}", "scale": _scale(rows), "seen": seen}


def _tabs(
    content: Mapping[str, Any], boards: Sequence[Mapping[str, Any]], rows: Sequence[Entry]
) -> list[dict[str, str]]:
    tabs = [{"id": board["id"], "title": board["title"]} for board in boards]
    tabs.append({"id": "references", "title": "references"})
    for place, effect in enumerate(content["effects"], 1):
        tabs.append({"id": f"effect-{place}", "title": f"{effect['regulariser']} effect"})
    further = {
        "negation": content["negation"],
        "posthoc": content["posthoc"],
        "coefficients": content["curves"],
        "subsets": content["subsets"],
        "cost": [row for row in rows if row["seconds"] and row["accuracy"] is not None],
        "geometry": content["geometry"],
        "disentanglement": content["disentanglement"],
        "lambda": content["strengths"],
        "published": True,
    }
    return tabs + [{"id": name, "title": name} for name, there in further.items() if there]


def _effect(effect: Mapping[str, Any]) -> dict[str, Any]:
    """The map with its cells by place and a colour strength: 1 for the largest difference, or for a point if less."""
    largest = max([1.0, *(abs(c["difference"]) for c in effect["cells"])])
    cells = [{**c, "strength": abs(c["difference"]) / largest} for c in effect["cells"]]
    at: dict[tuple[str, str], Any] = {(m, o): None for m in effect["methods"] for o in effect["operators"]}
    at |= dict.fromkeys(map(tuple, effect["inapplicable"]), "n/a")
    at |= {(c["method"], c["operator"]): c for c in cells}
    return {**effect, "at": at}


def _scale(rows: Sequence[Entry]) -> tuple[float, float]:
    values = [row[k] for row in rows for k in ("low", "accuracy", "high") if row[k] is not None]
    return (min(values), max(values)) if values else (0.0, 100.0)


def _style(finetuning: str, bases: Sequence[str]) -> str:
    base, _, regularizer = finetuning.partition("+")
    return f"s{bases.index(base) % 4}" + ("" if regularizer else " plain")


def _mark(place: int) -> Markup:
    shape = svg.MARKERS[place % 4].format(x=7, y=7, x0=3.5, y0=3.5, t=2, c="")
    return Markup(f'<svg width="14" height="14" aria-hidden="true"><g class="s{place % 4} mark">{shape}</g></svg>')


def _curves(entry: Mapping[str, Any], styles: Mapping[str, str]) -> Markup:
    series = {name: [(x, y) for x, y in points] for name, points in entry["curves"].items()}
    return svg.curves(series, styles, entry["operator"], "scaling coefficient")


def _subsets(entries: Sequence[Mapping[str, Any]], styles: Mapping[str, str]) -> list[Markup]:
    """Two charts for every operator: accuracy with its interval, and accuracy normalised by own experts."""
    charts = []
    for operator in sorted({entry["operator"] for entry in entries}):
        mine = [entry for entry in entries if entry["operator"] == operator]
        sizes = sorted({point["tasks"] for entry in mine for point in entry["points"]})
        for value, label in (("accuracy", "accuracy, %"), ("normalised", "normalised (own), %")):
            series = [(styles[e["finetuning"]], [_subset(e, p, value) for p in subsets.drawn(e, value)]) for e in mine]
            charts.append(svg.trend(series, f"{operator}: {label}", "merged tasks", [(n, str(n)) for n in sizes]))
    return charts


def _subset(entry: Mapping[str, Any], point: Mapping[str, Any], value: str) -> svg.Dot:
    if point["y"] is None:
        return svg.Dot(point["x"], None)
    low, high = (point["low"], point["high"]) if value == "accuracy" else (None, None)
    text = f"{entry['name']}, {point['x']} tasks: {point['y']:.2f} {interval(low, high) if low else ''}".rstrip()
    return svg.Dot(point["x"], point["y"], f"{text}, {point['measured']} subsets", low, high)


def _strength(entry: Mapping[str, Any], styles: Mapping[str, str]) -> Markup:
    """Test accuracy with marks, validation as a thin line, and a line where validation chose; 0 stands first."""
    smallest = min((p["strength"] for p in entry["curve"] if p["strength"] > 0), default=1.0)
    at = {p["strength"]: math.log10(p["strength"] or smallest / 4) for p in entry["curve"]}
    test, validation = [], []
    for point in entry["curve"]:
        x, both = at[point["strength"]], f"{number(point['test'])} test, {number(point['validation'])} validation"
        test.append(svg.Dot(x, point["test"], f"lambda {point['strength']:g}: {both}"))
        validation.append(svg.Dot(x, point["validation"]))
    series = [("validation", validation), (styles[entry["finetuning"]], test)]
    ticks = [(x, f"{strength:g}") for strength, x in at.items()]
    return svg.trend(series, entry["name"], "lambda", ticks, at.get(entry["chosen"]))


def _cost(board: Mapping[str, Any], bases: Sequence[str]) -> Markup:
    points = []
    for row in board["rows"]:
        if row["seconds"] and row["accuracy"] is not None:
            base, _, regularizer = row["finetuning"].partition("+")
            place = bases.index(base)
            points.append((row["name"], row["seconds"], row["accuracy"], f"s{place % 4}", place, bool(regularizer)))
    return svg.scatter(points, board["title"], "wall seconds of one merge cell", "accuracy, %")


def _off_diagonal(matrix: Sequence[Sequence[float]]) -> list[float]:
    return [value for i, row in enumerate(matrix) for j, value in enumerate(row) if i != j]


def _square(entry: Mapping[str, Any], worst: float) -> Markup:
    mode = f", {entry['mode']}" if entry["mode"] else ""
    title = f"{entry['finetuning']}{mode}: {entry['searched_error']:.3f}"
    return svg.square(entry["error"], entry["coefficients"], title, worst)


def _heat(entry: Mapping[str, Any], deepest: float) -> Markup:
    mean = "" if entry["mean"] is None else f", mean |cosine| {entry['mean']:.3f}"
    return svg.heat(entry["cosine"], entry["tasks"], f"{entry['finetuning']}{mean}", deepest)
