"""`bench plot`: the views of the page as SVG, PDF or PNG files for a paper. Same numbers, drawn with matplotlib."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.boards import pictures
from bench.boards.pictures import MARKS, OKABE_ITO
from bench.errors import BenchError, UnknownName
from bench.tables import subsets

Page = Mapping[str, Any]
FORMATS = (".svg", ".pdf", ".png")
GRIDS = {"cosine": "geometry", "disentanglement": "disentangle", "lambda": "strength", "subsets": "subsets"}
"""The grid that measures a view, where it is not `all`."""


def names() -> list[str]:
    """What can be plotted."""
    return sorted(_PLOTS)


def draw(page: Page, what: str, path: Path) -> Path:
    """Draw one view of a suite's page to `path`; its ending chooses the format. Raises BenchError where nothing is
    there.
    """
    if what not in _PLOTS:
        raise UnknownName("plot", what, _PLOTS)
    if path.suffix not in FORMATS:
        raise BenchError(f"cannot plot to {path.name}; name a file that ends in {', '.join(FORMATS)}")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "bench", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        if not _PLOTS[what](figure, page):
            run = f"`bench run --grid {GRIDS.get(what, 'all')}`"
            raise BenchError(f"nothing to plot as {what} in the results of {page['suite']}; {run} measures it")
        path.parent.mkdir(parents=True, exist_ok=True)
        said = {"Description": pictures.mark([page[part] for part in ("effects", "subsets", "strengths")])}
        no_date = {".svg": {"Date": None, **said}, ".pdf": {"CreationDate": None}, ".png": {"Software": "bench"}}
        figure.savefig(path, dpi=200, metadata=no_date[path.suffix])
    return path


def _accuracy(figure: Any, page: Page) -> bool:
    if not page["boards"]:
        return False
    pictures.draw(figure, page)
    return True


def _effect(figure: Any, page: Page) -> bool:
    effects = page["effects"]
    if not effects:
        return False
    figure.set_size_inches(
        1.8 * len(effects) + 0.9 * sum(len(e["methods"]) for e in effects),
        1.4 + 0.3 * max(len(e["operators"]) for e in effects),
    )
    largest = max([1.0, *(abs(c["difference"]) for e in effects for c in e["cells"])])
    for axes, effect in zip(figure.subplots(1, len(effects), squeeze=False)[0], effects, strict=True):
        at = {(c["operator"], c["method"]): c for c in effect["cells"]}
        values = [
            [at.get((o, m), {"difference": float("nan")})["difference"] for m in effect["methods"]]
            for o in effect["operators"]
        ]
        axes.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto")
        for (operator, method), cell in at.items():
            place = effect["methods"].index(method), effect["operators"].index(operator)
            text = f"{cell['difference']:+.2f}" + ("*" if cell["significant"] else "")
            dark = abs(cell["difference"]) > 0.6 * largest
            axes.text(*place, text, ha="center", va="center", size=8, color="white" if dark else "black")
        axes.set_xticks(range(len(effect["methods"])), effect["methods"])
        axes.set_yticks(range(len(effect["operators"])), effect["operators"])
        axes.set_title(f"{effect['regulariser']}: with minus without, points (* p < 0.05)", loc="left", size=9)
    return True


def _coefficients(figure: Any, page: Page) -> bool:
    charts = {e["operator"]: e["curves"] for e in page["curves"]}
    return _small_multiples(figure, charts, "scaling coefficient", "validation accuracy, %")


def _subsets(figure: Any, page: Page) -> bool:
    charts: dict[str, dict[str, list[list[float | None]]]] = {}
    for entry in page["subsets"]:
        for value, said in (("accuracy", "accuracy"), ("normalised", "normalised (own)")):
            points = [[p["x"], p["y"]] for p in subsets.drawn(entry, value)]
            charts.setdefault(f"{entry['operator']}: {said}", {})[entry["finetuning"]] = points
    return _small_multiples(figure, charts, "merged tasks", "%")


def _lambda(figure: Any, page: Page) -> bool:
    entries = page["strengths"]
    if not entries:
        return False
    methods = sorted({entry["finetuning"] for entry in entries})
    grid = _grid(figure, len(entries), 2.6, 2.0)
    for axes, entry in zip(grid, entries, strict=True):
        colour, mark, _ = _style(entry["finetuning"], methods)
        every = [p["strength"] for p in entry["curve"]]
        axes.plot(every, [p["test"] for p in entry["curve"]], marker=mark, ms=4, lw=1.2, color=colour, label="test")
        axes.plot(every, [p["validation"] for p in entry["curve"]], lw=1, ls=":", color="#666666", label="validation")
        if entry["chosen"] is not None:
            axes.axvline(entry["chosen"], color="black", lw=1, ls="--", label="chosen on validation")
        axes.set_xscale("symlog", linthresh=min(filter(None, every), default=1.0), linscale=0.5)
        axes.set_xticks(every, [f"{s:g}" for s in every], minor=False)
        axes.minorticks_off()
        axes.set_title(entry["name"], loc="left", size=9)
        axes.grid(color="#dddddd", lw=0.5)
    figure.supxlabel("lambda", size=9)
    figure.supylabel("accuracy, %", size=9)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return True


def _cost(figure: Any, page: Page) -> bool:
    rows = [r for b in page["boards"] for r in b["rows"] if r["seconds"] and r["accuracy"] is not None]
    if not rows:
        return False
    methods = sorted({row["finetuning"] for row in rows})
    figure.set_size_inches(7, 4.5)
    axes = figure.add_subplot()
    for name in methods:
        mine = [row for row in rows if row["finetuning"] == name]
        colour, mark, regular = _style(name, methods)
        axes.plot(
            [r["seconds"] for r in mine],
            [r["accuracy"] for r in mine],
            mark,
            ms=5,
            color=colour,
            mfc=colour if regular else "white",
            label=name,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("wall seconds of one merge cell")
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False, ncols=2, fontsize=8)
    return True


def _cosine(figure: Any, page: Page) -> bool:
    maps = page["geometry"]
    off = [abs(v) for m in maps for i, row in enumerate(m["cosine"]) for j, v in enumerate(row) if i != j]
    deepest = max(off, default=0.0) or 1.0
    blank = [
        [[float("nan") if i == j else v for j, v in enumerate(r)] for i, r in enumerate(m["cosine"])] for m in maps
    ]
    squares = [(m["finetuning"], matrix, m["tasks"]) for m, matrix in zip(maps, blank, strict=True)]
    return _heat_maps(figure, squares, "RdBu", (-deepest, deepest), "cosine similarity")


def _disentanglement(figure: Any, page: Page) -> bool:
    maps = page["disentanglement"]
    deepest = max((v for m in maps for row in m["error"] for v in row), default=0.0) or 1.0
    squares = [(" ".join(filter(None, (m["finetuning"], m["mode"]))), m["error"], m["coefficients"]) for m in maps]
    return _heat_maps(figure, squares, "Blues", (0, deepest), "weight-disentanglement error", upwards=True)


def _heat_maps(
    figure: Any,
    squares: Sequence[tuple[str, Sequence[Sequence[float]], Sequence[Any]]],
    colours: str,
    span: tuple[float, float],
    label: str,
    *,
    upwards: bool = False,
) -> bool:
    if not squares:
        return False
    grid = _grid(figure, len(squares), 2.6, 2.6)
    for axes, (title, matrix, ticks) in zip(grid, squares, strict=False):
        image = axes.imshow(matrix, cmap=colours, vmin=span[0], vmax=span[1], origin="lower" if upwards else "upper")
        places = range(0, len(ticks), 2 if upwards else 1)
        axes.set_xticks(places, [ticks[i] for i in places], rotation=0 if upwards else 90, size=7)
        axes.set_yticks(places, [ticks[i] for i in places], size=7)
        axes.set_title(title, loc="left", size=9)
        searched = [i for i, c in enumerate(ticks) if upwards and 0 <= c <= 1]
        if searched:
            edges = [searched[0] - 0.5, searched[-1] + 0.5]
            corners = [edges[0], edges[1], edges[1], edges[0], edges[0]]
            axes.plot(corners, [edges[0], edges[0], edges[1], edges[1], edges[0]], color="black", lw=1)
    figure.colorbar(image, ax=grid, label=label, shrink=0.8)
    return True


def _small_multiples(
    figure: Any, charts: Mapping[str, Mapping[str, Sequence[Sequence[float | None]]]], x: str, y: str
) -> bool:
    if not charts:
        return False
    methods = sorted({name for curves in charts.values() for name in curves})
    grid = _grid(figure, len(charts), 2.6, 2.0)
    for axes, operator in zip(grid, sorted(charts), strict=False):
        for name in methods:
            points = charts[operator].get(name, [])
            colour, mark, regular = _style(name, methods)
            few = mark if len(points) < 12 else None
            axes.plot(
                [p[0] for p in points],
                [p[1] for p in points],
                marker=few,
                ms=3,
                ls="-" if regular else "--",
                color=colour,
                lw=1.2,
                label=name,
            )
        axes.set_title(operator, loc="left", size=9)
        axes.grid(color="#dddddd", lw=0.5)
    figure.supxlabel(x, size=9)
    figure.supylabel(y, size=9)
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=4 if len(charts) > 2 else 2,
        frameon=False,
        fontsize=8,
    )
    return True


def _grid(figure: Any, count: int, width: float, height: float) -> list[Any]:
    """`count` axes in rows of at most four; the rest of the last row is blank."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure.set_size_inches(max(5.6, width * columns + 0.8), height * rows + 0.9)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for blank in axes[count:]:
        blank.set_axis_off()
    return axes[:count]


def _style(name: str, methods: Sequence[str]) -> tuple[str, str, bool]:
    base, _, regularizer = name.partition("+")
    bases = list(dict.fromkeys(method.partition("+")[0] for method in methods))
    place = bases.index(base)
    return OKABE_ITO[place % len(OKABE_ITO)], MARKS[place % len(MARKS)], bool(regularizer)


_PLOTS: dict[str, Callable[[Any, Page], bool]] = {
    "accuracy": _accuracy,
    "coefficients": _coefficients,
    "cosine": _cosine,
    "cost": _cost,
    "disentanglement": _disentanglement,
    "effect": _effect,
    "lambda": _lambda,
    "subsets": _subsets,
}
