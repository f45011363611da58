"""MagMax (Marczak et al., 2024): the entry of largest magnitude over tasks, with its sign.

    merged = tau_{argmax_t |tau_t|}

Equal magnitudes of opposite sign give the positive one, so task order does not matter. The paper fine-tunes the tasks
in sequence; on independent experts, as here, published results are lower (71.1 against 80.6 on ViT-B-32).
"""

import torch
from torch import Tensor

from methods.operator import SUMS, Operator
from methods.vectors import per_tensor


@per_tensor
def merge(deltas: Tensor) -> Tensor:
    high, low = deltas.amax(dim=0), deltas.amin(dim=0)
    return torch.where(high >= -low, high, low)


OPERATOR = Operator(
    "magmax",
    merge,
    title="MagMax",
    paper="arXiv:2407.06322",
    citation="@inproceedings{marczak2024magmax, title={{MagMax}: leveraging model merging for seamless continual "
    "learning}, "
    "author={Marczak, Daniel and Twardowski, Bart{\\l}omiej and Trzci{\\'n}ski, Tomasz and Cygert, Sebastian}, "
    "booktitle={ECCV}, year={2024}}",
    formula="merged = the tau_t of largest magnitude, entry by entry",
    coefficients=SUMS,
    per_tensor=True,
)
