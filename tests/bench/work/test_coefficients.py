"""Sweeps of a coefficient grid: what is looked at, and when that is enough."""

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.work.coefficients import COARSE, WHOLE, most, search


def swept(sweep: str, curve: Mapping[float, float]) -> tuple[float, list[Sequence[float]]]:
    """The choice, ties to the smaller, and what was asked for round by round."""
    rounds: list[Sequence[float]] = []

    def ask(some: Sequence[float], found: Mapping[float, float]) -> dict[float, float]:
        assert not set(some) & set(found)
        rounds.append(some)
        return {c: curve[c] for c in some}

    def best(found: Mapping[float, float]) -> float:
        return max(sorted(found), key=lambda c: found[c])

    found, asked = search(sweep, curve, ask, best)
    assert list(found) == sorted(found) == list(asked) == sorted(c for some in rounds for c in some)
    assert len(asked) <= most(sweep, len(curve))
    return best(found), rounds


def test_rounds_by_hand() -> None:
    """A peak at 7 of 0..20: 8 is the best of every fourth, then 6 and 10 lose to it, then 7 beats 8."""
    curve = {float(i): -abs(i - 7.2) for i in range(21)}
    assert swept(COARSE, curve) == (7.0, [[0, 4, 8, 12, 16, 20], [6, 10], [7, 9]])
    assert swept(WHOLE, curve) == (7.0, [list(range(21))])


def test_the_last_coefficient_is_looked_at_and_the_ends_have_one_neighbour() -> None:
    assert swept(COARSE, {float(i): float(i) for i in range(16)}) == (15, [[0, 4, 8, 12, 15], [13], [14]])
    assert swept(COARSE, {float(i): -float(i) for i in range(16)}) == (0, [[0, 4, 8, 12, 15], [2], [1]])


@pytest.mark.parametrize("count", range(1, 34))
@pytest.mark.parametrize("skew", [0.1, 1.0, 7.0])
def test_of_a_curve_with_one_peak_the_choice_is_that_of_the_whole_sweep(count: int, skew: float) -> None:
    """Every place of the peak, steeper on one side or the other."""
    for peak in range(count):
        curve = {float(i): (i - peak) * (skew if i < peak else -1.0) for i in range(count)}
        assert swept(COARSE, curve)[0] == swept(WHOLE, curve)[0] == peak


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_of_any_curve_the_choice_is_the_best_of_what_was_looked_at_with_every_fourth(values: list[int]) -> None:
    curve = {0.1 * i: float(value) for i, value in enumerate(values)}
    chosen, rounds = swept(COARSE, curve)
    looked = {c for some in rounds for c in some}
    assert curve[chosen] == max(curve[c] for c in looked)
    assert set(list(curve)[::4]) <= looked


def test_how_many_are_looked_at_most() -> None:
    assert [most(COARSE, n) for n in (1, 2, 5, 9, 16, 21)] == [1, 2, 5, 7, 9, 10]
    assert [most(WHOLE, n) for n in (1, 16, 21)] == [1, 16, 21]


def test_an_ask_may_leave_out_what_cannot_win() -> None:
    def ask(some: Sequence[float], found: Mapping[float, float]) -> dict[float, float]:
        return {c: c for c in some if c >= max(found, default=-math.inf)}

    found, asked = search(COARSE, map(float, range(9)), ask, lambda found: max(found))
    assert (found, asked) == ({0.0: 0.0, 4.0: 4.0, 8.0: 8.0}, (0.0, 4.0, 6.0, 7.0, 8.0))


def test_a_sweep_of_another_bench_is_refused() -> None:
    with pytest.raises(BenchError, match="sweep 'bisection' is unknown here, known: whole, coarse-to-fine"):
        swept("bisection", {0.0: 1.0})
