"""Full fine-tuning: every parameter of the image tower trains (Ilharco et al., 2023: task arithmetic's experts)."""

from typing import Any

from torch import Generator, Tensor

from methods.finetuning.record import FineTuning, Params, copies


def start(pretrained: Params, generator: Generator, **options: Any) -> dict[str, Tensor]:
    return copies(pretrained, list(pretrained))


FINETUNING = FineTuning(
    "nonlinear",
    "Full fine-tuning",
    "arXiv:2212.04089",
    start,
    formula="f(x; theta), every parameter of the image tower trains; tau = theta - theta_0",
)
