"""LiNeS (Wang et al., 2025): scale the merged update up with depth.

    a = |sum_t tau_t|_1 / (T |merged|_1)        merged_l <- (a + lines_slope * l / (L - 1)) * merged_l

for block l of L (the first number between dots in a parameter's name); what is in no block gets the smallest factor a.
The official code searches the slope on validation at coefficient 1; here the slope is an option with its search grid,
and the scaling coefficient multiplies the whole, so coefficient 1 is the published formula.
"""

from methods.modifiers.record import Modifier
from methods.operator import MEANS
from methods.vectors import TaskVector, Vectors, block, total


def modify(merged: TaskVector, vectors: Vectors, *, lines_slope: float) -> TaskVector:
    size = sum(float(x.abs().sum()) for x in merged.values())
    added = sum(float(total(vectors, name).abs().sum()) for name in merged)
    a = (added / size if size > 0 else 1.0) / len(vectors)
    last = max((block(name) or 0 for name in merged), default=0)
    return {name: x * (a + lines_slope * (block(name) or 0) / max(last, 1)) for name, x in merged.items()}


MODIFIER = Modifier(
    "lines",
    modify,
    when="after",
    title="LiNeS (deeper blocks scaled up)",
    paper="arXiv:2410.17146",
    formula="block l times (a + slope l/(L-1)), a = |sum tau|_1 / (T |merged|_1)",
    grid={"lines_slope": (0.5, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)},
    coefficients=MEANS,
    unlawful={"identity": "scales deeper blocks up"},
)
