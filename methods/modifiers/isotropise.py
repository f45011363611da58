"""Isotropise: every matrix of the merged vector gets one singular value, the mean of its own.

    merged = U S V^T  ->  mean(S) U V^T

The step that makes Iso-C out of a sum, after any operator; `task_arithmetic~isotropise` equals `iso_c` on matrices.
Parameters that are not 2-D stay as they are.
"""

from methods.merging.iso_c import isotropic
from methods.modifiers.record import Modifier
from methods.operator import SPECTRAL
from methods.vectors import TaskVector, Vectors


def modify(merged: TaskVector, vectors: Vectors) -> TaskVector:
    return {name: isotropic(x, "all") if x.ndim == 2 else x for name, x in merged.items()}


MODIFIER = Modifier(
    "isotropise",
    modify,
    when="after",
    title="isotropised",
    paper="arXiv:2502.04959",
    formula="U S V^T -> mean(S) U V^T",
    coefficients=SPECTRAL,
    per_tensor=True,
    unlawful={"identity": "flattens the spectrum of a single task too"},
)
