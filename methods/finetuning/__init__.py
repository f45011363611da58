"""The registry of fine-tuning methods: a new one is a file in this folder and its name in the tuple below."""

from methods.finetuning import att, lora, nonlinear, tta
from methods.finetuning.record import FineTuning

FINETUNING: dict[str, FineTuning] = {m.FINETUNING.name: m.FINETUNING for m in (nonlinear, tta, att, lora)}

__all__ = ["FINETUNING", "FineTuning"]
