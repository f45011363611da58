"""A comparison as text for a terminal. The numbers are `bench.tables.compare`'s, as they are."""

from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.tables import stats
from bench.tables.compare import p_text

BOARDS_DIFFER = "{} on different boards: one was allowed to see more than the other."
FEW_SEEDS = (
    f"Fewer than {stats.OUTER_SEEDS} seeds: this speaks of these very models, the variance between seeds is not in it."
)


def render(result: dict[str, Any]) -> Group:
    """A result of `compare` or `compare_regularizer` for a terminal, ready for `rich.print`."""
    return _render_family(result) if "comparisons" in result else _render_pair(result)


def _render_family(result: dict[str, Any]) -> Group:
    table = _table("", "row", "against", "accuracy", "difference", "95 % interval", "p (Holm)", "verdict")
    for c in result["comparisons"]:
        sides = f"{c['a']['accuracy']:.2f} / {c['b']['accuracy']:.2f}"
        interval = f"[{_signed(c['low'])}, {_signed(c['high'])}]"
        numbers = (sides, _signed(c["difference"]), interval, p_text(c["p"]).removeprefix("= "))
        table.add_row(c["kind"], c["a"]["name"], c["b"]["name"], *numbers, c["verdict"])
    worst = max(c["detectable"] for c in result["comparisons"])
    note = (
        "Intervals are those of each comparison alone, p is adjusted for all of them. Differences from "
        f"{worst:.2f} points on would have been found with 80 % power in every single comparison."
    )
    if any(c["boards_differ"] for c in result["comparisons"]):
        note += "\n" + BOARDS_DIFFER.format(f"{result['operator']} and {result['baseline']} are")
    if any(0 < len(c["seeds"]) < stats.OUTER_SEEDS for c in result["comparisons"]):
        note += "\n" + FEW_SEEDS
    reasons: dict[str, list[str]] = {}
    for row in result["left_out"]:
        reasons.setdefault(row["reason"], []).append(row["name"])
    left_out = [f"left out, {reason}: {', '.join(names)}" for reason, names in reasons.items()]
    return Group(table, Text(result["sentence"]), Text("\n".join([note, *left_out]), style="dim"))


def _render_pair(result: dict[str, Any]) -> Group:
    sides = _table("", "accuracy", "normalised (own)", "normalised (common)", "board")
    for side in (result["a"], result["b"]):
        numbers = [_number(side[k]) for k in ("accuracy", "normalised", "normalised_common")]
        sides.add_row(side["name"], *numbers, side["board"])
    tasks = _table("task", result["a"]["name"], result["b"]["name"], "difference", "images won", "lost", "p (Holm)")
    for t in result["tasks"]:
        numbers = [_number(t["a"]), _number(t["b"]), _signed(t["difference"]), str(t["won"]), str(t["lost"])]
        tasks.add_row(t["task"], *numbers, p_text(t["p_holm"]).removeprefix("= "))
    found = f"Differences from {result['detectable']:.2f} points on would have been found with 80 % power."
    seeds = ", ".join(map(str, result["seeds"])) or "none (nothing random)"
    notes = [f"{found} Seeds: {seeds}. Per task: McNemar's exact test."]
    if 0 < len(result["seeds"]) < stats.OUTER_SEEDS:
        notes.append(FEW_SEEDS)
    if result["boards_differ"]:
        notes.append(BOARDS_DIFFER.format("The two rows are"))
    return Group(sides, tasks, Text(result["sentence"], style="bold"), Text("\n".join(notes), style="dim"))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        text = column in ("", "row", "against", "task", "board", "verdict")
        table.add_column(column, justify="left" if text else "right", overflow="fold")
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}"
