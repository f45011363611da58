"""A regulariser that reaches no gradient of what trains is refused, and one that does nothing yet is not."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from bench.cards.recipes import Recipe
from bench.errors import BenchError
from bench.work.penalty import Penalty
from bench.work.training import Training
from methods.factors import Factors
from methods.finetuning import FINETUNING, FineTuning
from methods.regularizers import REGULARIZERS, Regularizer

RECIPE = Recipe(steps=4, batch_size=1, lr=0.1, strength=0.5)
BASE = {"w": torch.ones(3, 2)}


def plain_start(pretrained, generator):
    return {name: weight.clone() for name, weight in pretrained.items()}


PLAIN = FineTuning("plain", "All", "", plain_start)


def steps(penalty, method=PLAIN, recipe=RECIPE):
    """The loop in small: the loss is the sum of all weights, a step is plain gradient descent. What is left."""
    training = Training(recipe, method, penalty)
    leaves = method.start(BASE, torch.Generator(), **training.options)
    added = Penalty(training, seed=0)
    for step in range(recipe.steps):
        grads = {name: torch.ones_like(leaf) for name, leaf in leaves.items()}
        added.add(step, grads, method.updates(BASE, leaves, **training.options), plain=False)
        for name, leaf in leaves.items():
            leaf -= 0.1 * grads[name]
        added.look(step + 1)
    return leaves


def test_the_share_by_hand():
    """One step of loss 1 gives D = -0.1; then 2 * 0.5 * D is added to 1: D = -0.1 - 0.1 (1 - 0.1) = -0.19."""
    square = Regularizer("square", "Squares", "", value=lambda update: update.square().sum())
    leaves = steps(square, recipe=dataclasses.replace(RECIPE, steps=2))
    torch.testing.assert_close(leaves["w"], torch.full((3, 2), 1 - 0.19))


def test_a_regularizer_gets_the_strength_its_options_and_a_draw_of_its_own_in_every_step():
    asked = []

    def add_gradient(updates, by_weight, strength, *, generator, plain, **options):
        asked.append((strength, options, int(torch.randint(1 << 40, (), generator=generator))))
        return torch.tensor(1.0)

    training = SimpleNamespace(
        recipe=RECIPE, method=PLAIN, options={}, penalty_options={"sketch": 2},
        regularizer=SimpleNamespace(name="mine", add_gradient=add_gradient),
    )  # fmt: skip
    for seed in (0, 0, 1):
        added = Penalty(training, seed)
        for step in (0, 1):
            added.add(step, {"w": torch.ones(3, 2)}, {"w": torch.zeros(3, 2)}, plain=False)
    assert {(strength, *options.items()) for strength, options, _ in asked} == {(0.5, ("sketch", 2))}
    draws = [draw for *_, draw in asked]
    assert draws[:2] == draws[2:4]
    assert len(set(draws)) == 4


def test_options_of_method_and_regularizer_go_to_their_owners():
    recipe = dataclasses.replace(RECIPE, options={"rank": 4, "form": "squared"})
    training = Training.of(recipe, "lora", "orthoreg")
    assert training.options == {"rank": 4, "alpha": FINETUNING["lora"].declared["alpha"][0]}
    assert training.penalty_options == {"form": "squared"}
    assert Training.of(RECIPE, "lora").options["rank"] == FINETUNING["lora"].declared["rank"][0]


@pytest.mark.parametrize(
    ("name", "options"),
    [(n, o) for n, r in REGULARIZERS.items() for o in ({}, {"form": "squared"}) if set(o) <= set(r.declared)],
    ids=str,
)
def test_no_slope_at_the_pretrained_weights_is_no_fault(name, options):
    """One step sees D = 0 only, where a penalty may be flat as those of OrthoReg are; the next one moves."""
    for count in (1, 2):
        steps(REGULARIZERS[name], recipe=dataclasses.replace(RECIPE, steps=count, options=options))


def copied(grads, **options):
    return {name: grad.clone() for name, grad in grads.items()}


def half_copied(grads, **options):
    pairs = FINETUNING["lora"].gradients(grads, **options)
    return {name: Factors(pair.b, pair.a.clone()) for name, pair in pairs.items()}


def test_a_hook_that_returns_new_tensors_is_refused_at_once():
    method = dataclasses.replace(PLAIN, gradients=copied)
    says = "fine-tuning plain.orthoreg: the gradients hook of plain returns a new tensor for w, .*; return the tensors"
    with pytest.raises(BenchError, match=says):
        steps(REGULARIZERS["orthoreg"], method, dataclasses.replace(RECIPE, steps=1))
    half = dataclasses.replace(FINETUNING["lora"], gradients=half_copied)
    base = {"attn.in_proj_weight": torch.ones(16, 16)}
    training = Training(RECIPE, half, REGULARIZERS["orthoreg"])
    leaves = half.start(base, torch.Generator(), **training.options)
    with pytest.raises(BenchError, match=r"a new tensor for attn\.in_proj_weight"):
        Penalty(training, 0).add(0, copied(leaves), half.updates(base, leaves, **training.options), plain=False)


def test_views_are_no_new_tensors():
    views = dataclasses.replace(PLAIN, gradients=lambda grads: {name: grad.view(3, 2) for name, grad in grads.items()})
    moved = steps(REGULARIZERS["orthoreg"], views)["w"]
    assert torch.equal(moved, steps(REGULARIZERS["orthoreg"])["w"])
    assert not torch.equal(moved, torch.full((3, 2), 0.6))


def lost(update, grad, strength):
    grad = grad + strength * update  # not in place
    return update.square().sum()


def test_a_regularizer_that_moves_nothing_is_refused():
    says = "fine-tuning plain.lost: in 2 steps the regulariser lost moved no gradient of what plain trains, .* in place"
    with pytest.raises(BenchError, match=says) as caught:
        steps(Regularizer("lost", "Lost", "", lost, lost))
    assert "\n" not in str(caught.value)
    with pytest.raises(BenchError, match="idle moved no gradient"):  # zero throughout: known at the end only
        steps(Regularizer("idle", "Idle", "", value=lambda update: 0 * update.sum()))


def test_a_penalty_that_starts_late_is_no_fault():
    """A hinge: nothing until the norm is 0.6, which is after three of the four steps."""
    hinge = Regularizer("hinge", "Hinge", "", value=lambda update: (update.norm() - 0.6).clamp(min=0))
    assert not torch.equal(steps(hinge)["w"], torch.full((3, 2), 0.6))
