"""The training loop: exact steps worked out again by hand, pairing, resuming, and what it refuses."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch.func import functional_call, jvp
from torch.testing import assert_close

from bench.cards.recipes import Recipe
from bench.errors import BenchError, UnknownName
from bench.work.finetune import rate, train
from bench.work.pictures import Pictures, batches
from bench.work.resume import FileCheckpoint
from bench.work.training import Training
from methods.finetuning import FINETUNING
from methods.regularizers import REGULARIZERS
from methods.tower import Tower
from methods.tower.reference import forward_mode
from methods.vectors import generator

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
TANGENT_LORA = dataclasses.replace(FINETUNING["lora"], name="tangent_lora", tangent=True)  # a user's own method
ORTHOREG = ("orthoreg", "orthoreg_diagonal", "orthoreg_offdiagonal")
WITH_VALUE = [name for name, regularizer in REGULARIZERS.items() if regularizer.value]
PAIRS = [(m, r, {}) for m in FINETUNING for r in (None, *WITH_VALUE)]  # {}: at the regulariser's own defaults
PAIRS += [(m, r, {"form": "squared"}) for m in FINETUNING for r in ORTHOREG]
PAIRS += [(TANGENT_LORA, "orthoreg", given) for given in ({}, {"form": "squared"})]
RECIPE = Recipe(steps=6, batch_size=5, lr=1e-3, warmup_steps=2)
LORA = {"rank": 2, "alpha": 2.0}
LEARNS = {"nonlinear": (5e-3, 0.7), "tta": (5e-3, 0.7), "att": (2e-2, 0.7), "lora": (2e-2, 0.7)}
"""By method, a learning rate and what it leaves of the loss."""


@pytest.fixture(scope="module")
def task():
    """A tower, its parameters, a head for 4 classes and 23 images whose class shows in their brightness."""
    torch.manual_seed(0)
    module = VisionTransformer(8, 4, 12, 2, 3, 2.0, output_dim=6)
    draw = torch.Generator().manual_seed(1)
    labels = torch.arange(23) % 4
    noise = torch.randint(0, 40, (23, 3, 8, 8), generator=draw)
    head = 10 * F.normalize(torch.randn(4, 6, generator=draw), dim=-1)
    params = {name: p.detach() for name, p in module.named_parameters()}
    return Tower(module), params, head, (noise + 50 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def run(task, recipe=RECIPE, *, method="nonlinear", regularizer=None, seed=0, **more):
    tower, params, head, images, labels = task
    if method in ("lora", TANGENT_LORA):
        recipe = dataclasses.replace(recipe, options=LORA | dict(recipe.options))
    pictures, training = Pictures(images, labels, MEAN, STD), Training.of(recipe, method, regularizer)
    return train(tower, params, head, pictures, training, seed=seed, **more)


def loss_of(tower, params, head, images, labels, rows):
    features = tower(params, normalised(images[rows].float()))
    return F.cross_entropy(F.normalize(features, dim=-1) @ head.T, labels[rows])


def normalised(x):
    mean, std = (torch.tensor(c).view(1, 3, 1, 1).to(x.dtype) for c in (MEAN, STD))
    return (x / 255 - mean) / std


def test_one_plain_step_by_hand(task):
    """AdamW's first step is lr * (decay + sign-like g / (|g| + eps)), after clipping to norm 1."""
    tower, params, head, images, labels = task
    recipe = Recipe(steps=1, batch_size=5, lr=1e-2, weight_decay=0.1)
    expert = run(task, recipe)
    leaves = {n: p.clone().requires_grad_() for n, p in params.items()}
    loss = loss_of(tower, leaves, head, images, labels, batches(23, 1, 5, 0)[0])
    grads = torch.autograd.grad(loss, list(leaves.values()))
    norm = torch.stack([g.norm() for g in grads]).norm()
    shrink = min(1.0, 1.0 / (norm.item() + 1e-6))
    for (name, p), g in zip(params.items(), grads, strict=True):
        g = g * shrink
        wanted = -1e-2 * (0.1 * p + g / (g.abs() + 1e-8))
        known = g.abs() > 1e-5  # below, the quotient is rounding
        assert_close(expert.delta[name][known], wanted[known], rtol=2e-3, atol=1e-6, msg=name)
    assert expert.metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(("method", "regularizer", "given"), PAIRS, ids=lambda x: getattr(x, "name", str(x)))
def test_training_is_adamw_on_loss_plus_penalty_by_autograd(task, method, regularizer, given):
    """The whole loop written the slow way: penalty in the graph, torch.func jvp for tta, Adam from its formula."""
    _, params, head, images, labels = task
    recipe = dataclasses.replace(RECIPE, clip=0.7, label_smoothing=0.1)
    way = FINETUNING[method] if isinstance(method, str) else method
    if regularizer:
        if not seen_by(task, way, regularizer):
            pytest.skip(f"{way.name} trains no matrix that {regularizer} sees")
        recipe = dataclasses.replace(recipe, strength=0.3, options=given)
    expert = run(task, recipe, method=method, regularizer=regularizer)

    options = way.defaults | (LORA if method in ("lora", TANGENT_LORA) else {})
    double = {n: p.double() for n, p in params.items()}
    module = VisionTransformer(8, 4, 12, 2, 3, 2.0, output_dim=6).double()
    slow = Tower(module, fast=False)
    leaves = {n: x.requires_grad_() for n, x in way.start(double, generator(0, "finetune start"), **options).items()}
    first, second = ({n: torch.zeros_like(x) for n, x in leaves.items()} for _ in range(2))
    order, losses = batches(23, recipe.steps, recipe.batch_size, 0), []
    for step in range(recipe.steps):
        rows = order[step]
        x = normalised(images[rows].double())
        updates = way.updates(double, leaves, **options)
        dense = {n: u if isinstance(u, torch.Tensor) else u.scale * u.b @ u.a for n, u in updates.items()}
        if way.tangent:
            with forward_mode():
                at = {n: double[n] for n in dense}
                f0, moved = jvp(lambda p, x=x: functional_call(module, {**double, **p}, (x,)), (at,), (dense,))
            features = f0 + moved
        else:
            features = slow({n: p + dense[n] if n in dense else p for n, p in double.items()}, x)
        loss = F.cross_entropy(F.normalize(features, dim=-1) @ head.double().T, labels[rows], label_smoothing=0.1)
        losses.append(loss.item())
        if regularizer:
            loss = loss + 0.3 * penalty(regularizer, given, dense)
        grads = torch.autograd.grad(loss, list(leaves.values()))
        norm = torch.stack([g.norm() for g in grads]).norm()
        with torch.no_grad():
            for (n, leaf), g in zip(leaves.items(), grads, strict=True):
                g = g * min(1.0, 0.7 / (float(norm) + 1e-6))
                first[n] = 0.9 * first[n] + 0.1 * g
                second[n] = 0.999 * second[n] + 0.001 * g * g
                mean, spread = first[n] / (1 - 0.9 ** (step + 1)), second[n] / (1 - 0.999 ** (step + 1))
                leaf -= rate(step, recipe) * (0.1 * leaf + mean / (spread.sqrt() + 1e-8))
    wanted = way.delta(double, leaves, **options)
    assert sorted(expert.delta) == sorted(wanted)
    assert expert.metrics["loss"] == pytest.approx(losses[-1], rel=2e-4)
    for n in wanted:
        if n.endswith("in_proj_bias"):  # a constant on all keys cancels in the softmax; its gradient is pure rounding,
            wanted[n][12:24] = expert.delta[n][12:24]  # which Adam turns into whole steps
    whole = torch.cat([wanted[n].flatten() for n in wanted])
    ours = torch.cat([expert.delta[n].flatten() for n in wanted]).double()
    assert (ours - whole).norm() < 2e-4 * whole.norm()


def penalised(regularizer, updates):
    """The updates that a regulariser sees at its defaults: matrices whose names it does not leave out."""
    counts = REGULARIZERS[regularizer]
    return {n: u for n, u in updates.items() if u.ndim == 2 and counts.penalises(n, **counts.defaults)}


def seen_by(task, method, regularizer):
    """What a regulariser sees of a method; training with both is refused where it is nothing."""
    params = task[1]
    leaves = method.start(params, generator(0, "finetune start"), **method.defaults)
    return penalised(regularizer, method.delta(params, leaves, **method.defaults))


def penalty(name, given, updates):
    """The sum over matrices by autograd: OrthoReg from the formula below, another regulariser from its own `value`."""
    matrices = penalised(name, updates).values()
    if name in ORTHOREG:
        return sum(orthoreg(name, given.get("form", "frobenius"), d) for d in matrices)
    return sum(REGULARIZERS[name].value(d, **own_options(name)) for d in matrices)


def own_options(name):
    return {option: value for option, value in REGULARIZERS[name].defaults.items() if option != "strength"}


def orthoreg(name, form, d):
    """The formula; its zero norm, where the square root has no gradient, is left out of the graph."""
    gram = d @ d.T if form == "frobenius" and d.shape[0] < d.shape[1] else d.T @ d
    excess = gram - torch.eye(len(gram), dtype=d.dtype)
    diagonal = torch.diag(torch.diag(excess))
    total = {"orthoreg": excess, "orthoreg_diagonal": diagonal, "orthoreg_offdiagonal": excess - diagonal}[name]
    total = total.square().sum()
    return total if form == "squared" else (total.sqrt() if total > 0 else 0.0 * total)


@pytest.mark.parametrize("method", FINETUNING)
def test_experts_learn_the_task(task, method):
    tower, params, head, images, labels = task
    rate_of_method, left = LEARNS.get(method, (5e-3, 1.0))
    recipe = Recipe(steps=60, batch_size=8, lr=rate_of_method)
    if method == "lora":
        recipe = dataclasses.replace(recipe, options={"rank": 4, "alpha": 8.0})
    expert = run(task, recipe, method=method)
    start = float(loss_of(tower, params, head, images, labels, torch.arange(23)))
    assert expert.metrics["loss_tail"] < left * start


@pytest.mark.parametrize(
    ("method", "regularizer"),
    [
        *((method, None) for method in FINETUNING),
        *(("att", regularizer) for regularizer in REGULARIZERS),
        ("nonlinear", "orthoreg_offdiagonal"), ("tta", "orthoreg_diagonal"), ("lora", "orthoreg_offdiagonal"),
    ],
    ids=str,
)  # fmt: skip
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(task, method, regularizer):
    recipe = dataclasses.replace(RECIPE, strength=0.3 if regularizer else 0.0)
    one, again, other = (run(task, recipe, method=method, regularizer=regularizer, seed=s) for s in (1, 1, 2))
    assert_close(one.delta, again.delta, rtol=0, atol=0)
    assert one.metrics == again.metrics
    assert any((one.delta[n] != other.delta[n]).any() for n in one.delta)


def test_data_order_is_each_image_once_and_knows_no_method():
    order = batches(10, 7, 4, seed=3)
    assert order.shape == (7, 4)
    assert sorted(order.flatten()[:10].tolist()) == list(range(10))
    assert sorted(order.flatten()[10:20].tolist()) == list(range(10))
    assert_close(order, batches(10, 7, 4, seed=3))
    assert_close(order[:5], batches(10, 5, 4, seed=3))
    assert (order != batches(10, 7, 4, seed=4)).any()
    assert batches(3, 2, 7, seed=0).shape == (2, 7)


def test_rate_by_hand():
    """Warm-up 1/2, 2/2 of the peak, then cosine: 1, (1 + cos 45 deg) / 2, 1/2, ..."""
    recipe = Recipe(steps=6, batch_size=1, lr=8.0, warmup_steps=2)
    quarter = 4 * math.cos(math.pi / 4)
    assert [rate(s, recipe) for s in range(6)] == pytest.approx([4.0, 8.0, 8.0, 4 + quarter, 4.0, 4 - quarter])


class Memory:
    """A checkpoint that stops the run after its first save."""

    def __init__(self, every, stop):
        self.every, self.stop, self.state, self.loads = every, stop, None, 0

    def load(self):
        self.loads += 1
        return self.state

    def save(self, state):
        self.state = {name: value.clone() for name, value in state.items()}
        if self.stop:
            raise KeyboardInterrupt


@pytest.mark.parametrize("method", FINETUNING)
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(task, method):
    regularizer = "orthoreg" if seen_by(task, FINETUNING[method], "orthoreg") else None
    recipe = dataclasses.replace(RECIPE, strength=0.3)
    whole = run(task, recipe, method=method, regularizer=regularizer)
    memory = Memory(every=4, stop=True)
    with pytest.raises(KeyboardInterrupt):
        run(task, recipe, method=method, regularizer=regularizer, checkpoint=memory)
    assert int(memory.state["step"]) == 4
    memory.stop = False
    resumed = run(task, recipe, method=method, regularizer=regularizer, checkpoint=memory)
    assert memory.loads == 2
    assert_close(resumed.delta, whole.delta, rtol=0, atol=0)
    assert resumed.metrics == whole.metrics


def test_resuming_from_a_file_has_the_same_bits(task, tmp_path):
    class Stopping(FileCheckpoint):
        def save(self, state):
            super().save(state)
            raise KeyboardInterrupt

    path = tmp_path / "key.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(task, checkpoint=Stopping(path, every=2))
    assert_close(run(task, checkpoint=FileCheckpoint(path, every=2)).delta, run(task).delta, rtol=0, atol=0)


def test_a_checkpoint_of_another_run_is_refused(task):
    memory = Memory(every=4, stop=True)
    with pytest.raises(KeyboardInterrupt):
        run(task, method="att", checkpoint=memory)
    with pytest.raises(BenchError, match="the checkpoint belongs to another run"):
        run(task, method="lora", checkpoint=memory)


def test_arrays_and_tensors_are_the_same_images(task, tmp_path):
    tower, params, head, images, labels = task
    np.save(tmp_path / "pixels.npy", images.numpy())
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    ours = run((tower, params, head, mapped, labels.numpy()))
    assert_close(ours.delta, run(task).delta, rtol=0, atol=0)


def test_pretrained_weights_stay_untouched(task):
    before = {n: p.clone() for n, p in task[1].items()}
    for method in FINETUNING:
        run(task, method=method)
    assert_close(task[1], before, rtol=0, atol=0)
    assert not any(p.requires_grad for p in task[1].values())


def test_metrics(task):
    expert = run(task, method="lora", regularizer="orthoreg", recipe=dataclasses.replace(RECIPE, strength=0.1))
    assert set(expert.metrics) == {"loss", "loss_tail", "penalty", "update_norm", "steps", "parameters"}
    assert expert.metrics["steps"] == 6
    assert expert.metrics["parameters"] == 2 * 2 * (36 + 12 + 12 + 12)
    norm = math.sqrt(sum(float(d.square().sum()) for d in expert.delta.values()))
    assert expert.metrics["update_norm"] == pytest.approx(norm, rel=1e-5)
    assert expert.metrics["penalty"] == pytest.approx(4 * math.sqrt(12), rel=0.05)  # updates are still small
    for name, (b, a) in expert.factors.items():
        assert_close(b @ a, expert.delta[name])


def test_bfloat16_is_near_float32(task):
    for method in FINETUNING:
        exact = run(task, method=method)
        rough = run(task, dataclasses.replace(RECIPE, precision="bfloat16"), method=method)
        assert rough.metrics["loss"] == pytest.approx(exact.metrics["loss"], rel=0.05)
        assert all(d.dtype == torch.float32 for d in rough.delta.values())


def test_a_loss_that_is_no_number_names_the_step(task):
    tower, params, head, images, labels = task
    recipe = Recipe(steps=30, batch_size=5, lr=1e30, warmup_steps=0, clip=math.inf)
    with pytest.raises(BenchError, match=r"loss is not finite at step 2 of 30 .*learning rate 1e\+30.* lower"):
        run((tower, params, head, images, labels), recipe)


def test_refusals(task):
    tower, params, head, images, labels = task
    with pytest.raises(UnknownName, match="no fine-tuning method named 'nonlinera'; did you mean 'nonlinear'"):
        run(task, method="nonlinera")
    with pytest.raises(UnknownName, match="no regulariser named 'orthorag'; did you mean 'orthoreg'"):
        run(task, regularizer="orthorag")
    with pytest.raises(BenchError, match=r"images are torch\.float32 .*; give uint8"):
        run((tower, params, head, images.float(), labels))
    with pytest.raises(BenchError, match="23 images but labels"):
        run((tower, params, head, images, labels[:5]))
    with pytest.raises(BenchError, match="a label is 3, the head has 3 classes"):
        run((tower, params, head[:3], images, labels))


def test_sketched_penalty_is_seeded_and_resumes(task):
    recipe = dataclasses.replace(RECIPE, strength=0.3, options={"form": "squared", "sketch": 3})
    whole, again = (run(task, recipe, regularizer="orthoreg") for _ in range(2))
    assert_close(whole.delta, again.delta, rtol=0, atol=0)
    memory = Memory(every=4, stop=True)
    with pytest.raises(KeyboardInterrupt):
        run(task, recipe, regularizer="orthoreg", checkpoint=memory)
    memory.stop = False
    assert_close(run(task, recipe, regularizer="orthoreg", checkpoint=memory).delta, whole.delta, rtol=0, atol=0)
