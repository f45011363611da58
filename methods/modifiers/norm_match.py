"""Norm matching: give all task vectors the same norm, their mean norm, before the merge.

    tau_t <- tau_t * mean_j |tau_j| / |tau_t|        (norm of the whole task vector)

Norm mismatch alone costs TSV-M 11 and WUDI 36 points (DisTaC, 2026), and regularisers such as OrthoReg change norms as
well as angles: this separates the two. A zero task vector stays zero and does not count in the mean.
"""

from collections.abc import Mapping

from torch import Tensor

from methods.modifiers.record import Modifier
from methods.vectors import Mapped, Vectors, norm


def modify(vectors: Vectors) -> list[Mapped]:
    norms = [norm(vector) for vector in vectors]
    present = [size for size in norms if size > 0]
    target = sum(present) / max(len(present), 1)
    factors = [target / size if size > 0 else 1.0 for size in norms]
    return [_scaled(vector, factor) for vector, factor in zip(vectors, factors, strict=True)]


def _scaled(vector: Mapping[str, Tensor], factor: float) -> Mapped:
    return Mapped(vector, lambda _, x: x * factor)


MODIFIER = Modifier(
    "norm_match",
    modify,
    when="before",
    title="task vectors of equal norm",
    paper="",
    citation="no paper: defined here, to tell norms from angles",
    formula="tau_t <- tau_t mean_j |tau_j| / |tau_t|",
)
