"""Which coefficients of a grid validation looks at: the order of a sweep, nothing of models.

    whole            every one
    coarse-to-fine   every fourth and the last; then those two places from the best so far; then those next to the best

Of 21 coefficients coarse-to-fine looks at ten at most, of 16 at nine. Where the curve has one peak, rising strictly to
it and falling strictly from it, it chooses what the whole sweep chooses; docs/speed.md says how often it does on
measured curves, and what is lost where it does not. All fine-tuning methods and operators are searched alike, tangent
models too, for which the whole curve would cost nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from bench.errors import BenchError

Point = TypeVar("Point")
"""What validation gives at one coefficient."""
WHOLE, COARSE = "whole", "coarse-to-fine"
STRIDE = 4


def search(
    sweep: str,
    grid: Iterable[float],
    ask: Callable[[Sequence[float], Mapping[float, Point]], Mapping[float, Point]],
    best: Callable[[Mapping[float, Point]], float],
) -> tuple[dict[float, Point], tuple[float, ...]]:
    """What validation gave at the coefficients it looked at, and all that were asked for; both ascending.

    ask: from coefficients and the curve so far to the points there; it may leave out those that cannot win
    best: the best coefficient of the curve so far
    """
    points = sorted(set(grid))
    curve: dict[float, Point] = {}
    asked: set[float] = set()

    def at(places: Iterable[int]) -> None:
        new = [points[i] for i in sorted(set(places)) if 0 <= i < len(points) and points[i] not in asked]
        if new:
            asked.update(new)
            curve.update(ask(new, curve))

    if sweep not in (WHOLE, COARSE):
        raise BenchError(f"sweep {sweep!r} is unknown here, known: {WHOLE}, {COARSE}; use the bench that wrote it")
    if sweep == WHOLE:
        at(range(len(points)))
    else:
        at((*range(0, len(points), STRIDE), len(points) - 1))
        for step in (2, 1):
            middle = points.index(best(curve))
            at((middle - step, middle + step))
    return dict(sorted(curve.items())), tuple(sorted(asked))


def most(sweep: str, count: int) -> int:
    """How many of `count` coefficients are looked at, at most."""
    return count if sweep == WHOLE else min(count, len({*range(0, count, STRIDE), count - 1}) + 4)
