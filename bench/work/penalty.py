"""The regulariser's share of the gradient: added, and watched until it is known to reach what trains."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.work.training import Training
from methods.factors import Factors, Update
from methods.vectors import generator


class Penalty:
    """What a regulariser adds in one run.

    A penalty that reaches no leaf would give plain experts under the regulariser's name, so it is refused: at once
    where the method's `gradients` hook hands out new tensors, and else as soon as the weights have left the pretrained
    ones (where OrthoReg has no slope either) and the penalty has a value, or at the end.
    """

    def __init__(self, training: Training, seed: int) -> None:
        assert training.regularizer is not None
        self.training, self.seed, self.regularizer = training, seed, training.regularizer
        self.value = torch.zeros(())
        """Of the last step, without the strength; 0-d."""
        self._acts = self._away = False  # has moved a gradient; has seen an update that is not zero

    def add(self, index: int, grads: dict[str, Tensor], updates: Mapping[str, Update], *, plain: bool) -> None:
        """Add the share of step `index` to the gradients of the leaves, in place."""
        method, watched = self.training.method, not self._acts
        by_weight = method.gradients(grads, **self.training.options)
        if watched:
            self._same_memory(grads, by_weight)
            self._away = self._away or any(bool(x.any()) for u in updates.values() for x in _tensors(u)[:1])
            before = {name: grad.clone() for name, grad in grads.items()}
        self.value = self.regularizer.add_gradient(
            updates,
            by_weight,
            self.training.recipe.strength,
            generator=generator(self.seed, "finetune sketch", index),
            plain=plain,
            **self.training.penalty_options,
        )
        if watched:
            self._acts = any(not torch.equal(grads[name], grad) for name, grad in before.items())

    def look(self, done: int) -> None:
        """BenchError once it is clear that nothing arrives."""
        recipe, method = self.training.recipe, self.training.method.name
        if self._acts or not self._away or not (done == recipe.steps or bool(self.value)):
            return
        raise BenchError(
            f"{self.training.who}: in {done} steps the regulariser {self.regularizer.name} moved no gradient "
            f"of what {method} trains, so this would be plain {method}; let it add to `grad` in place, raise its "
            f"strength ({recipe.strength:g}), or leave it out"
        )

    def _same_memory(self, grads: Mapping[str, Tensor], by_weight: Mapping[str, Update]) -> None:
        memory = {grad.untyped_storage().data_ptr() for grad in grads.values()}
        for name, grad in by_weight.items():
            if any(x.untyped_storage().data_ptr() not in memory for x in _tensors(grad)):
                raise BenchError(
                    f"{self.training.who}: the gradients hook of {self.training.method.name} returns a new tensor "
                    f"for {name}, where the penalty of {self.regularizer.name} would be lost; return the tensors that "
                    "it is given, or views of them"
                )


def _tensors(update: Update) -> tuple[Tensor, ...]:
    """The tensor, or both factors: B, which is zero where the update is, and A."""
    return (update.b, update.a) if isinstance(update, Factors) else (update,)
