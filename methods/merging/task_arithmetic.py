"""Task arithmetic (Ilharco et al., 2023): the sum of the task vectors.

    merged = sum_t tau_t

The sum, not the mean: published coefficients (0.3 for eight tasks) refer to it.
"""

from methods.operator import SUMS, Operator
from methods.vectors import TaskVector, Vectors, total


def merge(vectors: Vectors) -> TaskVector:
    return {name: total(vectors, name) for name in vectors[0]}


OPERATOR = Operator(
    "task_arithmetic",
    merge,
    title="Task arithmetic",
    paper="arXiv:2212.04089",
    formula="merged = sum_t tau_t",
    coefficients=SUMS,
    linear=True,
    per_tensor=True,
)
