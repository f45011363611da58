"""Every number here is worked by hand."""

import pytest

from bench.errors import BenchError
from bench.ground.metrics import accuracy, best_for_negation, best_scaling, mean_accuracy, normalised_accuracy


def test_accuracy_is_a_ratio_of_counts():
    assert accuracy(3, 4) == 0.75
    assert accuracy(0, 5) == 0.0
    for correct, total in ((5, 4), (-1, 4), (0, 0)):
        with pytest.raises(BenchError, match="counts must satisfy"):
            accuracy(correct, total)


def test_mean_accuracy_weights_tasks_equally():
    assert mean_accuracy({"small": 0.2, "large": 0.6}) == pytest.approx(0.4)
    with pytest.raises(BenchError, match="no tasks"):
        mean_accuracy({})


def test_normalised_accuracy_is_a_mean_of_ratios_not_a_ratio_of_means():
    merged, expert = {"a": 0.4, "b": 0.9}, {"a": 0.8, "b": 0.9}
    assert normalised_accuracy(merged, expert) == pytest.approx((0.5 + 1.0) / 2)


def test_worse_own_experts_raise_own_normalised_accuracy_but_not_the_common_one():
    merged, own, common = {"a": 0.6}, {"a": 0.6}, {"a": 0.8}
    assert normalised_accuracy(merged, own) == pytest.approx(1.0)
    assert normalised_accuracy(merged, common) == pytest.approx(0.75)


def test_normalised_accuracy_refuses_a_missing_or_zero_reference():
    with pytest.raises(BenchError, match="none for b"):
        normalised_accuracy({"a": 0.5, "b": 0.5}, {"a": 1.0})
    with pytest.raises(BenchError, match="accuracy of a is 0"):
        normalised_accuracy({"a": 0.5}, {"a": 0.0})


def test_best_scaling_maximises_normalised_not_absolute_accuracy():
    expert = {"easy": 1.0, "hard": 0.2}
    points = {
        0.0: {"easy": 0.5, "hard": 0.1},  # normalised (0.5 + 0.5) / 2 = 0.50
        0.3: {"easy": 0.5, "hard": 0.2},  # normalised (0.5 + 1.0) / 2 = 0.75, mean 0.35
        0.6: {"easy": 0.8, "hard": 0.1},  # normalised (0.8 + 0.5) / 2 = 0.65, mean 0.45
    }
    assert best_scaling(points, expert) == 0.3


def test_best_scaling_gives_ties_to_the_smaller_coefficient_in_any_order():
    points = {0.5: {"a": 0.7}, 0.2: {"a": 0.7}, 0.9: {"a": 0.6}}
    assert best_scaling(points, {"a": 1.0}) == 0.2
    with pytest.raises(BenchError, match="empty sweep"):
        best_scaling({}, {"a": 1.0})


def test_negation_takes_the_lowest_target_that_keeps_the_control():
    target = {0.0: 0.9, 0.1: 0.5, 0.2: 0.3, 0.3: 0.1}
    control = {0.0: 0.8, 0.1: 0.79, 0.2: 0.76, 0.3: 0.75}  # 95 % of 0.8 is 0.76
    assert best_for_negation(target, control) == 0.2
    assert best_for_negation(target, control, keep=0.9) == 0.3


def test_negation_may_come_back_from_a_bad_coefficient_and_ties_go_to_the_smaller():
    target = {0.3: 0.2, 0.2: 0.2, 0.1: 0.1, 0.0: 0.9}
    control = {0.3: 0.8, 0.2: 0.8, 0.1: 0.1, 0.0: 0.8}
    assert best_for_negation(target, control) == 0.2


def test_negation_falls_back_to_zero_which_always_qualifies():
    assert best_for_negation({0.0: 0.9, 0.1: 0.0}, {0.0: 0.8, 0.1: 0.0}) == 0.0
    assert best_for_negation({0.0: 0.9, 0.1: 0.95}, {0.0: 0.8, 0.1: 0.9}, keep=1.5) == 0.0
    with pytest.raises(BenchError, match="0 among them"):
        best_for_negation({0.1: 0.9}, {0.1: 0.8})
