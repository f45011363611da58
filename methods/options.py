"""What values an option may take: one place, one line per mistake."""

import math
from typing import Any

# Shares of something: 0 would keep nothing and more than 1 is not a share. Percentages are refused, not guessed.
FRACTIONS = {"density", "fraction", "rank", "energy", "common", "ratio", "keep"}
# Shares that may be zero.
PORTIONS = {"drop", "top", "bottom", "epsilon", "threshold", "floor"}
SHARES = {"off_diagonal"}  # from none to all
COUNTS = {"iterations", "agreement", "subspace"}
POSITIVE = {"learning_rate"}
CHOICES = {
    "scope": ("global", "tensor", "row"),
    "zero_sign": ("majority", "zero", "plus"),
    "rescale": ("inverse", "l1", "none"),
    "spectrum_mean": ("all", "nonzero", "geometric"),
}


def check_option(who: str, option: str, value: Any, grid: tuple[Any, ...]) -> None:
    """Raise ValueError unless `value` is in the domain of `option`; `grid` = (default, searched values...)."""
    default = grid[0]
    if isinstance(default, str):
        allowed = CHOICES.get(option, ())
        allowed = tuple(dict.fromkeys((*grid, *allowed)))
        if value not in allowed:
            raise ValueError(f"{who}: option {option}={value!r} is not one of {', '.join(map(repr, allowed))}")
        return
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{who}: option {option}={value!r} is not true or false")
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{who}: option {option}={value!r} is not a finite number")
    if option in FRACTIONS and not 0 < value <= 1:
        raise ValueError(f"{who}: option {option}={value} is outside (0, 1]; it is a fraction, not a percentage")
    if option in PORTIONS and not 0 <= value < 1:
        raise ValueError(f"{who}: option {option}={value} is outside [0, 1); it is a fraction, not a percentage")
    if option in SHARES and not 0 <= value <= 1:
        raise ValueError(f"{who}: option {option}={value} is outside [0, 1]")
    if option in COUNTS and (value != int(value) or value < 1):
        raise ValueError(f"{who}: option {option}={value} is not a whole number of at least 1")
    if option in POSITIVE and value <= 0:
        raise ValueError(f"{who}: option {option}={value} is not positive")
    if value < 0:
        raise ValueError(f"{who}: option {option}={value} is negative")
