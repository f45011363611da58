"""Small charts as inline SVG for the HTML page. Colours come from the page's style, so dark mode and print work.

Every function returns safe markup; names are escaped. Series are told apart by marker and dash as well as by colour.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup, escape

Point = tuple[float, float]

MARKERS = {
    0: '<circle cx="{x}" cy="{y}" r="4"{c}/>',
    1: '<rect x="{x0}" y="{y0}" width="7" height="7"{c}/>',
    2: '<path d="M{x} {t}l4.4 8h-8.8z"{c}/>',
    3: '<path d="M{x} {t}l4.8 5-4.8 5-4.8-5z"{c}/>',
}


def whisker(value: float | None, low: float | None, high: float | None, span: tuple[float, float]) -> Markup:
    """A dot with its interval on the common scale `span`, 100 x 16; empty without a value."""
    if value is None:
        return Markup("")
    x = [_scale(v if v is not None else value, span, 4, 96) for v in (low, value, high)]
    parts = [f'<line x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="8" y2="8"/>', f'<circle cx="{x[1]:.1f}" cy="8" r="2"/>']
    return Markup(
        f'<svg class="whisker" viewBox="0 0 100 16" width="100" height="16" aria-hidden="true">{"".join(parts)}</svg>'
    )


def curves(series: Mapping[str, Sequence[Point]], style: Mapping[str, str], title: str, axis: str) -> Markup:
    """Lines through points, one per series; `style` gives the CSS class of a series. 260 x 190."""
    points = [p for s in series.values() for p in s]
    if not points:
        return Markup("")
    left, right, top, bottom = 36, 250, 24, 158
    x_span, y_span = _span([p[0] for p in points]), _span([p[1] for p in points])
    parts = [_frame(x_span, y_span, (left, right, top, bottom), axis)]
    for name, values in series.items():
        at = [(_scale(x, x_span, left, right), _scale(y, y_span, bottom, top)) for x, y in values]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<g class="{escape(style[name])}"><title>{escape(name)}</title><polyline points="{path}"/></g>')
    return _svg(260, 190, title, parts)


@dataclass(frozen=True)
class Dot:
    """A point of a trend: what it says when pointed at, and its interval if it has one. No `y`: the line has a gap."""

    x: float
    y: float | None
    said: str = ""
    low: float | None = None
    high: float | None = None


Series = Sequence[tuple[str, Sequence[Dot]]]
"""(CSS class, dots) of each line."""


def trend(series: Series, title: str, axis: str, ticks: Sequence[tuple[float, str]], at: float | None = None) -> Markup:
    """Lines with a mark and a whisker for every point; `at` draws a vertical line there. 400 x 260."""
    seen = [d for _, dots in series for d in dots if d.y is not None]
    heights = [v for d in seen for v in (d.low, d.y, d.high) if v is not None]
    if not heights:
        return Markup("")
    box = left, right, top, bottom = 40, 390, 26, 216
    x_span, y_span = _span([t for t, _ in ticks]), _span(heights)

    def place(x: float, y: float) -> Point:
        return _scale(x, x_span, left, right), _scale(y, y_span, bottom, top)

    parts = [_y_ticks(y_span, box)]
    parts += [_text(_scale(t, x_span, left, right), bottom + 15, said) for t, said in ticks]
    parts.append(_text((left + right) / 2, bottom + 32, axis))
    if at is not None:
        x = _scale(at, x_span, left, right)
        parts.append(f'<line class="chosen" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
    for style, dots in series:
        parts.append(f'<g class="{escape(style)} mark">')
        for whole, run in groupby(dots, lambda d: d.y is not None):
            path = " ".join("{:.1f},{:.1f}".format(*place(d.x, d.y)) for d in run if d.y is not None)
            parts.append(f'<polyline points="{path}"/>' if whole else "")
        for dot in dots:
            if dot.y is not None and dot.said:
                parts.append(_dot(style, dot, place))
        parts.append("</g>")
    return _svg(400, 260, title, parts)


def _dot(style: str, dot: Dot, place: Callable[[float, float], Point]) -> str:
    x, y = place(dot.x, dot.y or 0.0)
    whisker = ""
    if dot.low is not None and dot.high is not None:
        ends = f'y1="{place(dot.x, dot.low)[1]:.1f}" y2="{place(dot.x, dot.high)[1]:.1f}"'
        whisker = f'<line class="error" x1="{x:.1f}" x2="{x:.1f}" {ends}/>'
    hollow = ' class="hollow"' if "plain" in style else ""
    return f"<g{hollow}><title>{escape(dot.said)}</title>{whisker}{_marker(int(style[1]), x, y)}</g>"


def _marker(number: int, x: float, y: float, more: str = "") -> str:
    return MARKERS[number % len(MARKERS)].format(
        x=f"{x:.1f}", y=f"{y:.1f}", x0=f"{x - 3.5:.1f}", y0=f"{y - 3.5:.1f}", t=f"{y - 5:.1f}", c=more
    )


def scatter(points: Sequence[tuple[str, float, float, str, int, bool]], title: str, x_axis: str, y_axis: str) -> Markup:
    """Named points (name, x > 0, y, CSS class, marker, filled); the x axis is logarithmic. 760 x 400."""
    if not points:
        return Markup("")
    left, right, top, bottom = 52, 745, 24, 350
    x_span = _span([math.log10(p[1]) for p in points])
    y_span = _span([p[2] for p in points])
    parts = [_log_frame(x_span, y_span, (left, right, top, bottom), x_axis, y_axis)]
    for name, x, y, style, marker, filled in points:
        cx, cy = _scale(math.log10(x), x_span, left, right), _scale(y, y_span, bottom, top)
        hollow = "" if filled else ' fill="none"'
        shape = _marker(marker, cx, cy, hollow)
        said = f"{name}: {y:.2f} %, {x:.1f} s"
        parts.append(f'<g class="{escape(style)} mark" tabindex="0"><title>{escape(said)}</title>{shape}</g>')
    return _svg(760, 400, title, parts)


def heat(matrix: Sequence[Sequence[float]], names: Sequence[str], title: str, deepest: float) -> Markup:
    """A square of values with their numbers; `deepest` has the full colour, the diagonal (cosine 1) none."""
    size, left, top = 30, 70, 34
    parts = []
    for i, row in enumerate(matrix):
        y = top + i * size
        parts.append(_text(left - 5, y + 19, names[i], "end"))
        parts.append(_text(left + i * size + 15, top - 5, str(i + 1)))
        for j, value in enumerate(row):
            x, strength = left + j * size, 0.0 if i == j else min(1.0, abs(value) / deepest)
            fill = f'class="{"minus" if value < 0 else "plus"}" style="fill-opacity:{strength:.2f}"'
            said = escape(f"{names[i]}, {names[j]}: {value:.3f}")
            parts.append(f'<rect x="{x}" y="{y}" width="{size}" height="{size}" {fill}><title>{said}</title></rect>')
            parts.append(_text(x + 15, y + 19, _short(value), style="cell"))
    edge = len(matrix) * size
    return _svg(left + edge + 8, top + edge + 8, title, parts)


def square(matrix: Sequence[Sequence[float]], axis: Sequence[float], title: str, deepest: float) -> Markup:
    """Values >= 0 by two coefficients, first upwards, second to the right; the frame is [0, 1] x [0, 1]."""
    size, left, top = 20, 34, 24
    n, parts = len(axis), []
    for i, row in enumerate(matrix):
        y = top + (n - 1 - i) * size
        for j, value in enumerate(row):
            fill = f'class="plus" style="fill-opacity:{min(1.0, value / deepest):.2f}"'
            said = escape(f"{axis[i]:g}, {axis[j]:g}: {value:.3f}")
            place = f'x="{left + j * size}" y="{y}" width="{size}" height="{size}"'
            parts.append(f"<rect {place} {fill}><title>{said}</title></rect>")
        if i % 2 == 0:
            parts.append(_text(left - 5, y + 14, f"{axis[i]:g}", "end"))
            parts.append(_text(left + i * size + 10, top + n * size + 13, f"{axis[i]:g}"))
    searched = [k for k, c in enumerate(axis) if 0 <= c <= 1]
    if searched:
        x, y, edge = left + searched[0] * size, top + (n - 1 - searched[-1]) * size, len(searched) * size
        parts.append(f'<rect class="frame" x="{x}" y="{y}" width="{edge}" height="{edge}"/>')
    return _svg(left + n * size + 12, top + n * size + 22, title, parts)


def _text(x: float, y: float, text: str, anchor: str = "middle", style: str = "tick", more: str = "") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> Markup:
    width = max(width, 12 + 7 * len(title))
    head = f'<svg class="chart" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    name = f'<title>{escape(title)}</title><text class="title" x="4" y="14">{escape(title)}</text>'
    return Markup(f"{head}{name}{''.join(parts)}</svg>")


def _frame(x_span: Point, y_span: Point, box: tuple[int, int, int, int], axis: str) -> str:
    left, right, _, bottom = box
    ticks = [_text(_scale(tick, x_span, left, right), bottom + 14, f"{tick:g}") for tick in _ticks(x_span, 5)]
    return "".join([_y_ticks(y_span, box), *ticks, _text((left + right) / 2, bottom + 28, axis)])


def _log_frame(x_span: Point, y_span: Point, box: tuple[int, int, int, int], x_axis: str, y_axis: str) -> str:
    left, right, top, bottom = box
    parts = [_y_ticks(y_span, box)]
    for tick in _log_ticks(x_span):
        x = _scale(math.log10(tick), x_span, left, right)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 14, f"{tick:g}"))
    parts.append(_text((left + right) / 2, bottom + 32, x_axis))
    middle = (top + bottom) / 2
    parts.append(_text(12, middle, y_axis, more=f' transform="rotate(-90 12 {middle:.1f})"'))
    return "".join(parts)


def _y_ticks(span: Point, box: tuple[int, int, int, int]) -> str:
    left, right, top, bottom = box
    parts = []
    for tick in _ticks(span, 5):
        y = _scale(tick, span, bottom, top)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 5, y + 4, f"{tick:g}", "end"))
    return "".join(parts)


def _span(values: Sequence[float]) -> Point:
    """Smallest to largest with a margin of 4 %; a little room around a single value."""
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or max(0.5, abs(high) * 0.05)
    return low - margin, high + margin


def _ticks(span: Point, wanted: int) -> list[float]:
    """Round numbers within `span`, about as many as wanted."""
    raw = (span[1] - span[0]) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first = math.ceil(span[0] / step)
    return [round(k * step, 10) + 0.0 for k in range(first, math.floor(span[1] / step) + 1)]


def _log_ticks(span: Point) -> list[float]:
    """Round numbers whose logarithms lie within `span`: 1, 2, 5, 10, ... or more where these are fewer than three."""
    powers = range(math.floor(span[0]), math.ceil(span[1]) + 1)
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [m * 10.0**power for power in powers for m in steps if span[0] <= math.log10(m) + power <= span[1]]
        if len(ticks) >= 3:
            break
    return ticks


def _scale(value: float, span: Point, start: float, end: float) -> float:
    width = span[1] - span[0]
    return start + (value - span[0]) / width * (end - start) if width else (start + end) / 2


def _short(value: float) -> str:
    text = f"{round(value, 2) + 0.0:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else f"{value:.0f}"
