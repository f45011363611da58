"""Weight averaging: the mean task vector.

    merged = (1 / T) sum_t tau_t

Equal to task arithmetic at 1/T, which the tests use as an invariant. The scaling coefficient stays at 1.
"""

from methods.operator import Operator
from methods.vectors import TaskVector, Vectors, total


def merge(vectors: Vectors) -> TaskVector:
    return {name: total(vectors, name).div_(len(vectors)) for name in vectors[0]}


OPERATOR = Operator(
    "average",
    merge,
    title="Weight averaging",
    paper="arXiv:2203.05482",
    formula="merged = (1/T) sum_t tau_t",
    linear=True,
    per_tensor=True,
)
