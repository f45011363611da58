"""LoRA (Hu et al., 2022) on the two attention matrices of every block.

    W = W_0 + (alpha / rank) B A,   B: [rows, rank] from zero,   A: [rank, columns] uniform in +-1/sqrt(columns)

(the Kaiming-uniform start of the original code). The fused query-key-value projection gets one pair, as in OrthoReg's
released code. The sum above is what the forward pass uses, so the model is exact by construction: PEFT 0.21 applies the
output projection's pair twice on `nn.MultiheadAttention`.
"""

import torch
from torch import Generator, Tensor

from methods.factors import Factors, Update
from methods.finetuning.record import FineTuning, Params, attention_matrices

A, B = ".lora_a", ".lora_b"  # suffixes of the leaves


def start(pretrained: Params, generator: Generator, *, rank: int, alpha: float) -> dict[str, Tensor]:
    leaves = {}
    for name in attention_matrices(pretrained, "lora"):
        weight = pretrained[name]
        rows, columns = weight.shape
        most = min(rows, columns)
        if not 1 <= rank <= most:
            raise ValueError(f"lora: rank {rank} does not fit {name} {rows} x {columns}; give 1 to {most}")
        uniform = torch.rand(rank, columns, generator=generator, dtype=torch.float64) * 2 - 1  # on the CPU: same bits
        leaves[name + A] = (uniform / columns**0.5).to(weight)
        leaves[name + B] = weight.new_zeros(rows, rank)
    return leaves


def weights(pretrained: Params, leaves: Params, *, rank: int, alpha: float) -> dict[str, Tensor]:
    pairs = _pairs(leaves, alpha / rank)
    return {**pretrained, **{n: torch.addmm(pretrained[n], p.b, p.a, alpha=p.scale) for n, p in pairs.items()}}


def updates(pretrained: Params, leaves: Params, *, rank: int, alpha: float) -> dict[str, Update]:
    return {**_pairs(leaves, alpha / rank)}


def gradients(grads: Params, *, rank: int, alpha: float) -> dict[str, Update]:
    return {**_pairs(grads, 1.0)}


def _pairs(leaves: Params, scale: float) -> dict[str, Factors]:
    names = [leaf.removesuffix(A) for leaf in leaves if leaf.endswith(A)]
    return {name: Factors(leaves[name + B], leaves[name + A], scale) for name in names}


FINETUNING = FineTuning(
    "lora",
    "LoRA on the attention matrices",
    "arXiv:2106.09685",
    start,
    weights,
    updates,
    gradients,
    grid={"rank": (8, 4, 16, 32), "alpha": (8.0,)},
    formula="W_0 + (alpha / rank) B A for attn.in_proj_weight and attn.out_proj.weight of every block, B from zero",
)
