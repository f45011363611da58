"""The columns of a leaderboard, once: Markdown, CSV, LaTeX and the page go through these lists.

A new value of a row is computed in `bench.boards.boards` and becomes visible by one line here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.ground import names

DASH = "–"
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One value of a row and how it is shown."""

    key: str
    """in the row, the CSV, the DataFrame and the LaTeX macros"""
    title: str = ""
    """above it where people read it"""
    where: str = "csv tex"
    """which of csv, tex, md, html have it"""
    text: Callable[[Entry], str] | None = None
    """what people read; a number with two decimals by default"""
    value: Callable[[Entry], Any] | None = None
    """what programs read, in CSV and to sort by; the value itself by default"""
    page: str = ""
    """its title on the page, if another"""
    css: str = ""
    """its class on the page"""
    first: str = "descending"
    """how the page sorts by it at first; empty: not at all"""
    number: bool = True
    """whether the page sorts by the value and not by the text"""
    ranked: bool = False
    """only where rows are ranked"""
    mark: str = ""
    """in Markdown: `code`, or `bold` for the top tie group"""

    def shown(self, row: Entry) -> str:
        """The text of one cell."""
        return self.text(row) if self.text else number(row[self.key])

    def plain(self, row: Entry) -> Any:
        """The value of one cell; None where there is none."""
        return self.value(row) if self.value else row[self.key]


def variant(row: Entry) -> str:
    """What follows the fine-tuning method in a row's name: the operator and what tells its variants apart."""
    return str(names.row(row["name"]).merging)


def number(value: float | None, digits: int = 2) -> str:
    """So many decimals, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """`[70.10, 71.30]`, or a dash."""
    return DASH if low is None or high is None else f"[{low:.2f}, {high:.2f}]"


def chance(p: float | None) -> str:
    """A p-value on the page."""
    return DASH if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def of(columns: Iterable[Column], where: str, *, ranked: bool = True) -> list[Column]:
    """The columns that one rendering has, in its order."""
    return [column for column in columns if where in column.where.split() and (ranked or not column.ranked)]


def cells(columns: Iterable[Column], row: Entry) -> dict[str, str]:
    """One line of a Markdown table by title."""
    line = {}
    for column in columns:
        text = column.shown(row)
        bold = column.mark == "bold" and row["group"] == 1
        line[column.title] = f"`{text}`" if column.mark == "code" else f"**{text}**" if bold else text
    return line


def _or_dash(key: str) -> Callable[[Entry], str]:
    return lambda row: str(row[key] or DASH)


def _text(key: str) -> Callable[[Entry], str]:
    return lambda row: str(row[key])


def _between(low: str, high: str) -> Callable[[Entry], str]:
    return lambda row: interval(row[low], row[high])


def _count(row: Entry) -> int:
    return len(row["seeds"])


def _seeds(row: Entry) -> str:
    return "+".join(map(str, row["seeds"]))


def _interval(text: Callable[[Entry], str], css: str = "soft", title: str = "95 % interval") -> Column:
    return Column("interval", title, READ, text=text, css=css, first="", number=False)


EVERYWHERE, READ = "csv tex md html", "md html"
_HOLM = Column(
    "p",
    "p (Holm)",
    "csv tex html",
    text=lambda row: chance(row["p"]),
    value=lambda row: None if row["p"] is None else str(row["p"]),
    first="ascending",
    ranked=True,
)
_RANK = Column("rank", "#", EVERYWHERE, text=_or_dash("rank"), first="ascending", ranked=True)
_GROUP = Column("group", "group", EVERYWHERE, text=_or_dash("group"), first="ascending", ranked=True)
_NAME = Column("name", "row", READ, text=_text("name"), css="text", first="ascending", number=False, mark="code")
_ACCURACY = Column("accuracy", "accuracy", EVERYWHERE, css="accuracy", mark="bold")
_OWN = Column("normalised", "normalised (own)", EVERYWHERE, page="normalised, own")
_COMMON = Column("normalised_common", "normalised (common)", EVERYWHERE, page="normalised, common")
_TO_FIRST = Column("difference", "to first", EVERYWHERE, ranked=True)
_ENDS = (Column("difference_low"), Column("difference_high"))
_SCALING = Column("scaling", "scaling", READ, text=_text("scaling"), first="ascending", number=False, ranked=True)
_TASKS = Column("complete", "tasks", EVERYWHERE, text=_text("complete"), number=False)
_SEEDS = Column("seeds", "seeds", READ, text=lambda row: str(_count(row) or DASH), value=_count)

BOARD = (
    *(Column(key, where="csv") for key in ("board", "backbone")),
    _RANK,
    _GROUP,
    replace(_NAME, where="csv md html"),
    *(Column(key, where="csv") for key in ("finetuning", "operator", "options", "protocol")),
    _ACCURACY,
    _interval(_between("low", "high"), css="text"),
    *(Column(key) for key in ("low", "high")),
    _OWN,
    _COMMON,
    _TO_FIRST,
    *_ENDS,
    _HOLM,
    _SCALING,
    _TASKS,
    _SEEDS,
    Column("seconds", "seconds", "html", text=lambda row: number(row["seconds"], 1), first="ascending"),
    Column("seeds", where="csv", value=_seeds),
    Column("scaling"),
    Column("reason", where="csv"),
)

NEGATION = (
    replace(_RANK, where="tex md"),
    _GROUP,
    replace(_NAME, where="md"),
    replace(_NAME, key="finetuning", where="html", text=_text("finetuning")),
    replace(_ACCURACY, key="target", title="target accuracy ↓", page="target accuracy", first="ascending"),
    _interval(_between("low", "high")),
    *(Column(key) for key in ("low", "high")),
    replace(_TO_FIRST, first="ascending"),
    *_ENDS,
    _HOLM,
    Column("control", "control accuracy", EVERYWHERE),
    _interval(_between("control_low", "control_high"), title="its 95 % interval"),
    *(Column(key) for key in ("control_low", "control_high")),
    _SCALING,
    _TASKS,
    _SEEDS,
)
"""Interval, difference and p are the target's."""

POSTHOC = (
    _NAME,
    Column("accuracy", "linearised", READ),
    _interval(lambda row: row["reason"] or interval(row["low"], row["high"])),
    _OWN,
    _COMMON,
    Column("as_it_is", "as it is", READ),
    replace(_SCALING, where="md"),
    _TASKS,
    _SEEDS,
)
