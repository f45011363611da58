"""AdaMerging (Yang et al., 2024): coefficients that make predictions on unlabelled test images certain.

    minimise over lambda  sum_t entropy( model(theta_0 + sum_t lambda_t tau_t), test images of task t )     by Adam

`adamerging_task` learns one coefficient a task, `adamerging_layer` one a task and tensor; `..._pp_...` do so after
TIES: each task vector trimmed and without the entries whose sign lost the election. Start 0.3; `clamp` keeps
coefficients in [0, 1] (official code; FusionBench does not). The official loop takes two batches a task and step; here
a step is whatever the harness evaluates.

Board: unlabelled test data. The harness supplies `entropy(merged, step) -> 0-d tensor`, differentiable in the tensors
of `merged`: the mean prediction entropy, summed over tasks, of the model pretrained + merged on the step's images.
Gradients reach the coefficients by inner products with the task vectors, so memory holds one model's gradient, not T.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from methods.adam import Adam
from methods.merging import ties
from methods.merging.karcher import combine
from methods.operator import FIXED, Operator
from methods.vectors import TaskVector, Vectors, stack

Entropy = Callable[[TaskVector, int], Tensor]


def learn(
    vectors: Vectors, entropy: Entropy, *, layer: bool, start: float, learning_rate: float, iterations: int, clamp: bool
) -> TaskVector:
    """The merged vector with learned coefficients [tasks, tensors].

    Every step asks the model, so the vectors stay beside it, on `entropy.device` where the harness names one.
    """
    names, device = list(vectors[0]), getattr(entropy, "device", "cpu")
    near = [{name: vector[name].to(device) for name in names} for vector in vectors]
    value = torch.full((len(vectors), len(names)), start, dtype=torch.float64)
    adam = Adam(value, learning_rate)
    for step in range(int(iterations)):
        leaves = {name: combine(near, name, value[:, i]).requires_grad_() for i, name in enumerate(names)}
        with torch.enable_grad():
            loss = entropy(leaves, step)
            slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        gradient = torch.zeros_like(value)
        for i, (name, slope) in enumerate(zip(names, slopes, strict=True)):
            for task, vector in enumerate(near):
                if slope is not None:
                    gradient[task, i] = torch.sum(slope * vector[name], dtype=torch.float64)
        if not layer:
            gradient = gradient.sum(dim=1, keepdim=True).expand_as(value)
        adam.step(gradient)
        if clamp:
            value.clamp_(0, 1)
    return {name: combine(vectors, name, value[:, i]) for i, name in enumerate(names)}


def elected(vectors: Vectors, density: float) -> list[TaskVector]:
    """Each task vector trimmed to its largest entries, and of those only the ones with the elected sign."""
    trimmed = ties.trim(vectors, density, "global")
    out: list[TaskVector] = [{} for _ in vectors]
    for name in vectors[0]:
        pieces = [piece.clone() for piece in trimmed(name)]
        kept = torch.cat(pieces, dim=1) if pieces else stack(vectors, name)
        kept = torch.where(kept * kept.sum(dim=0) > 0, kept, 0.0)
        for task, row in enumerate(kept):
            out[task][name] = row.view(vectors[0][name].shape)
    return out


def merge(
    vectors: Vectors,
    *,
    entropy: Entropy,
    layer: bool,
    start: float,
    learning_rate: float,
    iterations: int,
    clamp: bool,
    density: float | None = None,
) -> TaskVector:
    chosen = vectors if density is None else elected(vectors, density)
    return learn(
        chosen, entropy, layer=layer, start=start, learning_rate=learning_rate, iterations=iterations, clamp=clamp
    )


TASK = Operator(
    "adamerging_task",
    partial(merge, layer=False),
    title="AdaMerging, one coefficient a task",
    paper="arXiv:2310.02575",
    formula="merged = sum_t lambda_t tau_t, lambda by minimal entropy on unlabelled test images",
    grid={"start": (0.3,), "learning_rate": (1e-3,), "iterations": (500,), "clamp": (True, False)},
    coefficients=FIXED,
    board="unlabelled-test",
    needs=("entropy",),
    cost="iterative",
    unlawful={"identity": "learns the coefficients from data, from 0.3 and not from 1"},
)
LAYER = TASK.with_(
    name="adamerging_layer",
    function=partial(merge, layer=True),
    title="AdaMerging, one coefficient a task and tensor",
    formula="merged_l = sum_t lambda_tl tau_tl, lambda by minimal entropy on unlabelled test images",
    unlawful={**TASK.unlawful, "scale": "the gradients of small tensors compare with Adam's absolute epsilon"},
)
AFTER_TIES = {**TASK.grid, "density": (0.2, 0.1)}
PP_TASK = TASK.with_(
    name="adamerging_pp_task",
    title="AdaMerging++ (after TIES), one coefficient a task",
    formula="tau_t trimmed and of the elected sign (TIES); then as adamerging_task",
    grid=AFTER_TIES,
)
PP_LAYER = LAYER.with_(
    name="adamerging_pp_layer",
    unlawful=TASK.unlawful,
    title="AdaMerging++ (after TIES), one coefficient a task and tensor",
    formula="tau_t trimmed and of the elected sign (TIES); then as adamerging_layer",
    grid=AFTER_TIES,
)
