"""Attention-only fine-tuning (Jin et al., 2025): the attention matrices of every block train, no biases, nothing else.

Those are the fused query-key-value projection `attn.in_proj_weight` and the output projection `attn.out_proj.weight`.
"""

from typing import Any

from torch import Generator, Tensor

from methods.finetuning.record import FineTuning, Params, attention_matrices, copies


def start(pretrained: Params, generator: Generator, **options: Any) -> dict[str, Tensor]:
    return copies(pretrained, attention_matrices(pretrained, "att"))


FINETUNING = FineTuning(
    "att",
    "Attention-only fine-tuning",
    "arXiv:2407.07089",
    start,
    formula="f(x; theta), only attn.in_proj_weight and attn.out_proj.weight of every block train, no biases",
)
