"""DARE before TIES: drop at random and rescale, then trim, elect and merge.

    tau_t <- m_t * tau_t / (1 - drop)        merged = ties(tau; density)

The defaults are FusionBench's (drop half, then keep a fifth of what the trim ranks). mergekit's `dare_ties` has no
magnitude trim at all: density 1 reproduces it. The dropped vectors are computed on access and never stored.
"""

from collections.abc import Callable

from torch import Tensor

from methods.merging import dare, ties
from methods.operator import MEANS, Operator
from methods.vectors import Mapped, TaskVector, Vectors, generator


def merge(
    vectors: Vectors, *, drop: float, rescale: str, density: float, scope: str, zero_sign: str, seed: int
) -> TaskVector:
    def dropped(task: int) -> Callable[[str, Tensor], Tensor]:
        return lambda name, x: dare.sparsify(x, drop, rescale, generator(seed, "dare", task, name))

    sparse = [Mapped(vector, dropped(task)) for task, vector in enumerate(vectors)]
    return ties.merge(sparse, density=density, scope=scope, zero_sign=zero_sign)


OPERATOR = Operator(
    "dare_ties",
    merge,
    title="DARE with TIES-Merging",
    paper="arXiv:2311.03099",
    formula="tau_t <- m_t tau_t / (1 - drop); merged = ties(tau)",
    grid={"drop": (0.5, 0.8, 0.9), "rescale": ("inverse",)} | dict(ties.OPERATOR.grid),
    coefficients=MEANS,
    random=True,
    cost="global",
    unlawful=dare.OPERATOR.unlawful,
)
