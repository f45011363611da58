"""What values an option may take: one place, one line per mistake."""

import math
from collections.abc import Callable
from typing import Any

CHOICES = {
    "scope": ("global", "tensor", "row"),
    "zero_sign": ("majority", "zero", "plus"),
    "rescale": ("inverse", "l1", "none"),
    "spectrum_mean": ("all", "nonzero", "geometric"),
}
"""Options whose values are words: all of them, for operators whose grid has the default only."""

DOMAINS: tuple[tuple[frozenset[str], str, Callable[[float], bool]], ...] = (
    # Shares of something: 0 would keep nothing and more than 1 is not a share. Percentages are refused, not guessed.
    (
        frozenset({"density", "fraction", "rank", "energy", "common", "ratio", "keep"}),
        "outside (0, 1]; it is a fraction, not a percentage",
        lambda value: 0 < value <= 1,
    ),
    # Shares that may be zero.
    (
        frozenset({"drop", "top", "bottom", "epsilon", "threshold", "floor"}),
        "outside [0, 1); it is a fraction, not a percentage",
        lambda value: 0 <= value < 1,
    ),
    (frozenset({"off_diagonal"}), "outside [0, 1]", lambda value: 0 <= value <= 1),
    (
        frozenset({"iterations", "agreement", "subspace"}),
        "not a whole number of at least 1",
        lambda value: value == int(value) and value >= 1,
    ),
    (frozenset({"learning_rate"}), "not positive", lambda value: value > 0),
)
"""Names of options, what is wrong with a value outside their domain, and the domain."""


def choices(option: str, grid: tuple[Any, ...]) -> tuple[Any, ...]:
    """Every word that an option takes, the default first; nothing for an option that is a number."""
    if not isinstance(grid[0], str):
        return ()
    return tuple(dict.fromkeys((*grid, *CHOICES.get(option, ())))) if len(grid) == 1 else tuple(grid)


def check_option(who: str, option: str, value: Any, grid: tuple[Any, ...]) -> None:
    """Raise ValueError unless `value` is in the domain of `option`; `grid` = (default, searched values...).

    A domain goes by the option's name, so it holds only where the operator's own grid lies in it: a user's `rank` may
    as well count dimensions.
    """
    default = grid[0]
    if isinstance(default, str):
        if value not in choices(option, grid):
            raise ValueError(f"{who}: option {option}={value!r} is not one of {_words(choices(option, grid))}")
        return
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{who}: option {option}={value!r} is not true or false")
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{who}: option {option}={value!r} is not a finite number")
    for names, wrong, inside in DOMAINS:
        if option in names and all(inside(known) for known in grid) and not inside(value):
            raise ValueError(f"{who}: option {option}={value} is {wrong}")
    if value < 0 and min(grid) >= 0:
        raise ValueError(f"{who}: option {option}={value} is negative")


def _words(values: tuple[Any, ...]) -> str:
    return ", ".join(map(repr, values))
