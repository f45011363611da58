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
    citation="@inproceedings{ilharco2023editing, title={Editing models with task arithmetic}, author={Ilharco, Gabriel "
    "and Ribeiro, Marco Tulio and Wortsman, Mitchell and Gururangan, Suchin and Schmidt, Ludwig and Hajishirzi, "
    "Hannaneh and Farhadi, Ali}, booktitle={ICLR}, year={2023}}",
    formula="merged = sum_t tau_t",
    coefficients=SUMS,
    linear=True,
    per_tensor=True,
)
