"""Consensus merging (Wang et al., 2024): keep only entries that several tasks use.

With the multi-task vector tau (the sum: `consensus_ta`; the TIES disjoint sum: `consensus_ties`), task t uses an entry
if

    m_t = 1[ |tau_t| > threshold * |tau - tau_t| ]        merged = tau * 1[ sum_t m_t >= agreement ]

`tau_t` in the mask is the task vector itself (|theta_0 - theta_t|), as in the official code; FusionBench's port
compares something else. `agreement` above the number of tasks means all tasks (the official code would erase
everything). Note that T identical tasks pass only while threshold * (T - 1) < 1.
"""

from torch import Tensor

from methods.merging import ties
from methods.operator import SUMS, Operator
from methods.vectors import TaskVector, Vectors, chunks, total


def uses(deltas: Tensor, merged: Tensor, threshold: float) -> Tensor:
    """The TALL masks, boolean [tasks, ...]: where the task vector outweighs what the other tasks add."""
    return deltas.abs() > (merged - deltas).abs_().mul_(threshold)


def mask(vectors: Vectors, merged: TaskVector, threshold: float, agreement: int) -> TaskVector:
    """`merged` with entries that fewer than `agreement` tasks use set to zero, in place."""
    needed = min(int(agreement), len(vectors))
    for name, tensor in merged.items():
        flat, start = tensor.view(-1), 0
        for piece in chunks(vectors, name):
            here = slice(start, start + piece.shape[1])
            flat[here] *= uses(piece, flat[here], threshold).sum(dim=0) >= needed
            start = here.stop
    return merged


def merge(vectors: Vectors, *, threshold: float, agreement: int) -> TaskVector:
    return mask(vectors, {name: total(vectors, name) for name in vectors[0]}, threshold, agreement)


def merge_ties(
    vectors: Vectors, *, threshold: float, agreement: int, density: float, scope: str, zero_sign: str
) -> TaskVector:
    merged = ties.merge(vectors, density=density, scope=scope, zero_sign=zero_sign, mean=False)
    return mask(vectors, merged, threshold, agreement)


OPERATOR = Operator(
    "consensus_ta",
    merge,
    title="Consensus task arithmetic",
    paper="arXiv:2405.07813",
    formula="tau = sum_t tau_t; m_t = |tau_t| > threshold |tau - tau_t|; merged = tau 1[sum_t m_t >= agreement]",
    grid={"threshold": (0.4, 0.2, 0.3, 0.5, 0.6), "agreement": (2,)},
    coefficients=SUMS,
    per_tensor=True,
)
TIES = OPERATOR.with_(
    name="consensus_ties",
    function=merge_ties,
    title="Consensus TIES",
    formula="tau = ties_sum(tau_t); m_t = |tau_t| > threshold |tau - tau_t|; merged = tau 1[sum_t m_t >= agreement]",
    grid=dict(OPERATOR.grid) | dict(ties.OPERATOR.grid),
    cost="global",
    per_tensor=False,
    unlawful={"identity": "TIES trims a single task too"},
)
