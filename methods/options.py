"""Options of operators, fine-tuning methods and regularisers: what they may be, in one place, one line per mistake.

A record declares each option by its values, `{"density": (0.2, 0.1)}`: the default first, then others worth searching.
"""

import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

Grid = Mapping[str, tuple[Any, ...]]

CHOICES = {
    "scope": ("global", "tensor", "row"),
    "zero_sign": ("majority", "zero", "plus"),
    "rescale": ("inverse", "l1", "none"),
    "spectrum_mean": ("all", "nonzero", "geometric"),
    "form": ("frobenius", "squared"),
    "penalised": ("matrices", "layers"),
    "penalty_precision": ("float32", "mixed"),
}
"""Options whose values are words: all of them, for records whose grid has the default only."""

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
        frozenset({"iterations", "agreement", "subspace", "rank"}),
        "not a whole number of at least 1",
        lambda value: value == int(value) and value >= 1,
    ),
    (frozenset({"learning_rate", "alpha"}), "not positive", lambda value: value > 0),
    (
        frozenset({"sketch"}),
        "neither 0 nor a whole number from 2 on",
        lambda value: value == int(value) and (value == 0 or value >= 2),
    ),
)
"""Names of options, what is wrong with a value outside their domain, and the domain; the first that holds counts."""


class Declares:
    """What the records of fine-tuning methods and of regularisers share: options, passed to every hook by keyword."""

    name: str
    grid: Grid  # option -> (default, other values to search)
    options: Mapping[str, Any]  # option -> default, in short for those that nothing searches

    @property
    def declared(self) -> dict[str, tuple[Any, ...]]:
        """Every option with its values, the default first."""
        return {option: (default,) for option, default in self.options.items()} | dict(self.grid)

    @property
    def defaults(self) -> dict[str, Any]:
        """Every option with its default value."""
        return chosen(self.name, self.declared, {})


def chosen(who: str, grid: Grid, given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults overridden by `given`; ValueError for an unknown option or a value outside its domain."""
    for option, value in given.items():
        if option not in grid:
            near = get_close_matches(option, grid, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its options: {', '.join(grid) or 'none'}"
            raise ValueError(f"{who}: no option {option!r}; {hint}")
        check_option(who, option, value, grid[option])
    return {option: values[0] for option, values in grid.items()} | dict(given)


def choices(option: str, grid: tuple[Any, ...]) -> tuple[Any, ...]:
    """Every word that an option takes, the default first; nothing for an option that is a number."""
    if not isinstance(grid[0], str):
        return ()
    return tuple(dict.fromkeys((*grid, *CHOICES.get(option, ())))) if len(grid) == 1 else tuple(grid)


def check_option(who: str, option: str, value: Any, grid: tuple[Any, ...]) -> None:
    """Raise ValueError unless `value` is in the domain of `option`; `grid` = (default, searched values...).

    A domain goes by the option's name, so it holds only where the record's own grid lies in it: a `rank` may be a share
    or count dimensions.
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
        if option in names and all(inside(declared) for declared in grid):
            if not inside(value):
                raise ValueError(f"{who}: option {option}={value} is {wrong}")
            break
    if value < 0 and min(grid) >= 0:
        raise ValueError(f"{who}: option {option}={value} is negative")


def _words(values: tuple[Any, ...]) -> str:
    return ", ".join(map(repr, values))
