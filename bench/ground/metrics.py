"""Accuracy, the two normalised accuracies, and how a scaling coefficient is chosen. Pure functions of numbers.

Choosing a coefficient always has an answer and ties go to the smaller one, so the choice is a function of the
validation counts alone and can be repeated from the stored rows.
"""

from collections.abc import Mapping
from statistics import fmean

from bench.errors import BenchError

COMMON_REFERENCE = "nonlinear"
"""Fine-tuning method whose experts are the common reference of normalised accuracy."""


def accuracy(correct: int, total: int) -> float:
    """Share of images classified correctly, in [0, 1]; counts that cannot be are an error, not a number."""
    if not 0 <= correct <= total or total == 0:
        raise BenchError(f"accuracy of {correct} out of {total}; counts must satisfy 0 <= correct <= total, total > 0")
    return correct / total


def mean_accuracy(by_task: Mapping[str, float]) -> float:
    """Unweighted mean over tasks: every task counts the same, whatever the size of its test set."""
    if not by_task:
        raise BenchError("mean accuracy of no tasks asked; measure at least one task")
    return fmean(by_task[task] for task in sorted(by_task))


def normalised_accuracy(merged: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Mean over tasks of `merged / reference` accuracy, 1.0 = as good as the reference.

    The reference is the row's own experts (the papers' convention, arXiv:2212.04089) or the common reference, the plain
    `nonlinear` experts of the same seed. Own-normalised accuracy rises when experts get worse, so both are shown.
    """
    missing = sorted(set(merged) - set(reference))
    if missing or not merged:
        without = ", ".join(missing) or "no task"
        raise BenchError(f"normalised accuracy needs a reference for every task, none for {without}")
    zero = sorted(task for task in merged if reference[task] <= 0)
    if zero:
        raise BenchError(f"normalised accuracy is undefined: the reference accuracy of {', '.join(zero)} is 0")
    return fmean(merged[task] / reference[task] for task in sorted(merged))


def best_scaling(points: Mapping[float, Mapping[str, float]], expert: Mapping[str, float]) -> float:
    """Coefficient with the highest mean normalised validation accuracy; ties go to the smaller coefficient.

    points: {coefficient: {task: validation accuracy of the merged model}}
    expert: {task: validation accuracy of the task's own expert}
    """
    if not points:
        raise BenchError("a scaling coefficient cannot be chosen from an empty sweep")
    return max(sorted(points), key=lambda c: normalised_accuracy(points[c], expert))


def best_for_negation(target: Mapping[float, float], control: Mapping[float, float], keep: float = 0.95) -> float:
    """Coefficient with the lowest target accuracy among those that keep `keep` of the control accuracy at 0.

    target, control: {coefficient: validation accuracy}. Coefficient 0 is the pretrained model and always qualifies,
    so there is always an answer; ties go to the smaller coefficient.
    """
    if 0.0 not in target or set(target) != set(control):
        raise BenchError("negation needs target and control accuracy at the same coefficients, 0 among them")
    floor = keep * control[0.0] - 1e-12  # a control that keeps exactly its share qualifies whatever the rounding
    allowed = [c for c in sorted(target) if c == 0.0 or control[c] >= floor]
    return min(allowed, key=lambda c: target[c])
