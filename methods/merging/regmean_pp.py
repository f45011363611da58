"""RegMean++ (Nguyen et al., 2025): RegMean block by block, each block seeing what the merged blocks before it produce.

    for each block in order:  X_t = inputs of its layers, data of task t through the *merged* earlier blocks and through
                              expert t's own block;   merged block = RegMean with these X_t

Board: calibration. The harness supplies `grams_of(merged, task, block) -> {name: [in, in]}`: the Gram matrices (as for
`regmean`) of the linear layers of block number `block`, where `merged` is the task vector of everything merged so far.
For `block` equal to the number of blocks it returns those of the layers after the last block (`proj`), if any.
What belongs to no block is averaged; what has no digit in its name and is in `grams_of(..., blocks)` is merged last.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from methods.merging import regmean
from methods.merging.regmean import merge_some
from methods.operator import FIXED
from methods.vectors import TaskVector, Vectors, block

GramsOf = Callable[[TaskVector, int, int], Mapping[str, Tensor]]


def merge(vectors: Vectors, *, grams_of: GramsOf, off_diagonal: float, ridge: float) -> TaskVector:
    blocks = 1 + max((b for b in map(block, vectors[0]) if b is not None), default=-1)
    outside = [name for name in vectors[0] if block(name) is None]
    merged = merge_some(vectors, outside, [{}] * len(vectors), off_diagonal, ridge)
    for number in range(blocks + 1):
        grams = [grams_of(dict(merged), task, number) for task in range(len(vectors))]
        names = [name for name in vectors[0] if block(name) == number]
        if number == blocks:
            names = [name for name in outside if any(name in each for each in grams)]
        merged |= merge_some(vectors, names, grams, off_diagonal, ridge)
    return {name: merged[name] for name in vectors[0]}


OPERATOR = regmean.OPERATOR.with_(
    name="regmean_pp",
    function=merge,
    title="RegMean++",
    paper="arXiv:2508.03121",
    formula="RegMean block by block, with the inputs that the merged earlier blocks produce",
    coefficients=FIXED,
    needs=("grams_of",),
    cost="iterative",
    per_tensor=False,
)
