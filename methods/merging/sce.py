"""SCE (Wan et al., 2024, FuseChat): select entries that vary, weigh tasks by energy, erase minority signs.

For each tensor, keep the `density` share of entries with the largest variance over tasks (of those that vary at all),
and

    w_t = mean(tau_t^2) / sum_j mean(tau_j^2)        s = sign(sum_t tau_t), + where it is zero
    merged = sum_t w_t tau_t 1[sign(tau_t) = s] / sum_t w_t 1[sign(tau_t) = s]

as in mergekit, whose default keeps everything. Where no entry varies (one task, identical tasks) nothing is deselected;
mergekit would erase the tensor.
"""

import torch
from torch import Tensor

from methods.operator import MEANS, Operator
from methods.vectors import per_tensor


@per_tensor
def merge(deltas: Tensor, *, density: float) -> Tensor:
    flat = deltas.reshape(len(deltas), -1)
    if density < 1:
        variance = flat.var(dim=0, unbiased=False)
        varying = int(torch.count_nonzero(variance))
        if varying:
            kept = max(1, round(density * varying))
            flat = flat * (variance >= variance.kthvalue(variance.numel() - kept + 1).values)
    energy = flat.double().square().mean(dim=1) if flat.numel() else flat.new_zeros(len(flat)).double()
    whole = energy.sum()
    if whole == 0:
        return torch.zeros_like(deltas[0])
    weight = (energy / whole).to(flat.dtype)[:, None]
    sign = torch.where(flat.sum(dim=0) >= 0, 1.0, -1.0)
    agrees = weight * (flat.sign() == sign)
    share = agrees.sum(dim=0)
    return ((flat * agrees).sum(dim=0) / torch.where(share > 0, share, 1)).view(deltas.shape[1:])


OPERATOR = Operator(
    "sce",
    merge,
    title="Select, calculate, erase",
    paper="arXiv:2408.07990",
    citation="@article{wan2024fusechat, title={{FuseChat}: knowledge fusion of chat models}, author={Wan, Fanqi "
    "and Zhong, "
    "Longguang and Yang, Ziyi and Chen, Ruijun and Quan, Xiaojun}, journal={arXiv preprint arXiv:2408.07990}, "
    "year={2024}}",
    formula="w_t = share of energy; merged = sum_t w_t tau_t [sign agrees] / sum_t w_t [sign agrees]",
    grid={"density": (1.0, 0.1, 0.5)},
    coefficients=MEANS,
    per_tensor=True,
)
