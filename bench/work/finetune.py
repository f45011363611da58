"""Fine-tuning: the one training loop. What trains, and what is added to the gradient, come in as records of `methods`.

    gradient = d/d leaves  cross_entropy(head . normalise(tower(weights(leaves), images)), labels)
             + strength * d/d leaves  penalty(updates(leaves))

Released conventions are kept where they matter: AdamW, linear warm-up and cosine to zero, the whole gradient clipped
(penalty included), text tower and head frozen. Weight decay acts on the leaves: for `nonlinear` and `att` these are the
weights; for `tta` they are the weights theta too, not theta - theta_0 (the reference trains `params` and forms the
difference inside the forward pass); for `lora` they are the factors A and B.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cards.recipes import Recipe
from bench.errors import BenchError
from bench.pixels.augment import boxes
from bench.work.penalty import Penalty
from bench.work.pictures import Pictures, batches, to
from bench.work.training import Training
from methods.factors import Factors, Update
from methods.tower import Tower
from methods.vectors import TaskVector, generator

LOOK_EVERY = 25
"""Steps between looks at the losses: a look makes a GPU wait for its queue."""

TAIL = 0.1
"""Share of the last steps over which the reported mean loss is taken."""


class Checkpoint(Protocol):
    """Where a long run keeps its state: a flat dict of tensors, so that safetensors can hold it."""

    every: int

    def load(self) -> dict[str, Tensor] | None:
        """The last saved state, or None."""

    def save(self, state: dict[str, Tensor]) -> None:
        """Keep this state instead of the last one; the tensors must be copied or written before returning."""


@dataclass(frozen=True)
class Expert:
    """A fine-tuned model as what it changed, on the CPU in the pretrained dtype."""

    delta: TaskVector
    """Update by parameter name; `att` and `lora` hold only the names they changed."""
    factors: dict[str, tuple[Tensor, Tensor]] | None
    """`(B, A)` with `delta == B @ A`, for low-rank methods."""
    metrics: dict[str, float]
    """`loss` (last step), `loss_tail` (mean over the last tenth), `penalty` (unweighted; 0 without one), `update_norm`
    (Euclidean, of the whole delta), `steps`, `parameters` (numbers trained)."""


def train(
    tower: Tower,
    pretrained: Mapping[str, Tensor],
    head: Tensor,
    pictures: Pictures,
    training: Training,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Expert:
    """Fine-tune one expert and return what it changed.

    `pretrained` are the tower's parameters (never written to); `head` is `[classes, embed]`, its rows normalised and
    times the logit scale.

    The order of the images depends on `seed` and the number of images alone, never on the method, so experts of two
    methods see the same batches and comparisons are paired. On one thread of a CPU the same call gives the same bits,
    also when it stopped half way and resumed from `checkpoint`.

    BenchError: images and labels that do not fit, a loss that is no longer finite, a regulariser that does nothing.
    """
    recipe, images, targets = training.recipe, pictures.images, pictures.targets(len(head))

    base = {name: value.detach().to(device) for name, value in pretrained.items()}
    leaves = training.method.start(base, generator(seed, "finetune start"), **training.options)
    trainer = Trainer(tower, training, base, leaves, head.to(device), seed)
    order, pictures = batches(len(images), recipe.steps, recipe.batch_size, seed), pictures.on(device)

    done = trainer.restore(checkpoint.load()) if checkpoint else 0
    for step in range(done, recipe.steps):
        rows, windows = order[step], None
        if recipe.augment == "crop":
            windows = boxes(len(rows), images.shape[-1], generator(seed, "finetune crop", step))
        trainer.step(step, pictures.batch(rows, windows), to(targets[rows], device))
        finished = step + 1
        if finished % LOOK_EVERY == 0 or finished == recipe.steps:
            trainer.look(finished)
        if checkpoint and finished % checkpoint.every == 0 and finished < recipe.steps:
            checkpoint.save(trainer.state(finished))
    return trainer.expert()


def rate(step: int, recipe: Recipe) -> float:
    """Learning rate of step 0, 1, ...: linear warm-up to `lr`, then half a cosine towards zero."""
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    share = (step - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))


class Trainer:
    """The state of one run: leaves, optimiser, losses."""

    def __init__(
        self,
        tower: Tower,
        training: Training,
        base: dict[str, Tensor],
        leaves: dict[str, Tensor],
        head: Tensor,
        seed: int,
    ) -> None:
        self.tower, self.training, self.base = tower, training, base
        self.method, self.options, self.recipe = training.method, training.options, training.recipe
        self.penalty = Penalty(training, seed) if training.regularizer and self.recipe.strength > 0 else None
        self.leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
        self.head = head
        # One kernel for all tensors; the plain loop over tensors costs a seventh of a step on the small tower.
        self.optimiser = torch.optim.AdamW(
            self.leaves.values(),
            lr=self.recipe.lr,
            betas=self.recipe.betas,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )
        self.losses, self.last_penalty = (torch.zeros(size, device=head.device) for size in ((self.recipe.steps,), ()))

    def step(self, index: int, batch: Tensor, labels: Tensor) -> None:
        grads, updates = self.gradients(index, batch, labels)
        if self.penalty is not None:
            self.penalty.add(index, grads, updates or self.updates(), plain=self.tower.plain)
            self.last_penalty = self.penalty.value
        for name, leaf in self.leaves.items():
            leaf.grad = grads[name]
        torch.nn.utils.clip_grad_norm_(self.leaves.values(), self.recipe.clip)
        self.optimiser.param_groups[0]["lr"] = rate(index, self.recipe)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def gradients(self, index: int, batch: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Update]]:
        """Gradients of the leaves by name, and the updates where they were needed on the training."""
        weights = self.method.weights(self.base, self.leaves, **self.options)
        updates: dict[str, Update] = {}
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            if self.method.tangent:
                updates = self.updates()
                tangent = {name: u.dense() if isinstance(u, Factors) else u for name, u in updates.items()}
                expansion = {name: self.base[name].detach().requires_grad_() for name in tangent}
                value, moved = self.tower.dual({**self.base, **expansion}, tangent, batch)
                features = value + moved
            else:
                features = self.tower(weights, batch)
        logits = F.normalize(features.float(), dim=-1) @ self.head.T
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        self.losses[index] = loss.detach()
        if self.method.tangent:
            # With out = f0 + J tau, d loss / d tau = J^T d loss / d out: backward through f0 alone, at theta_0. What is
            # left is the way from tau to the leaves: nothing where they are weights, two products where factors.
            along = torch.autograd.grad(loss, list(expansion.values()))
            found = torch.autograd.grad([weights[name] for name in expansion], list(self.leaves.values()), along)
        else:
            found = torch.autograd.grad(loss, list(self.leaves.values()))
        return dict(zip(self.leaves, found, strict=True)), updates

    @torch.no_grad()
    def updates(self) -> dict[str, Update]:
        return self.method.updates(self.base, self.leaves, **self.options)

    def look(self, done: int) -> None:
        """Stop at the first loss that is not finite, and where the penalty does nothing."""
        bad = (~torch.isfinite(self.losses[:done])).nonzero()
        if len(bad):
            at, rate_there = int(bad[0]) + 1, rate(int(bad[0]), self.recipe)
            raise BenchError(
                f"{self.training.who}: the loss is not finite at step {at} of {self.recipe.steps} "
                f"(learning rate {rate_there:.2g}, strength {self.recipe.strength:g}); lower one of the two"
            )
        if self.penalty is not None:
            self.penalty.look(done)

    def state(self, done: int) -> dict[str, Tensor]:
        """All that a continued run needs, as a flat dict of tensors."""
        kept = {"step": torch.tensor(done), "losses": self.losses, "penalty": self.last_penalty}
        for name, leaf in self.leaves.items():
            kept[f"leaf/{name}"] = leaf.detach()
            for key, value in self.optimiser.state[leaf].items():
                kept[f"{key}/{name}"] = value
        return kept

    def restore(self, state: dict[str, Tensor] | None) -> int:
        """Go back to a saved state; the number of steps it had done, 0 without one."""
        if state is None:
            return 0
        fits = {f"leaf/{name}" for name in self.leaves} == {name for name in state if name.startswith("leaf/")}
        if not fits or state["losses"].shape != self.losses.shape:
            raise BenchError(f"{self.training.who}: the checkpoint belongs to another run; delete it")
        self.losses.copy_(state["losses"])
        self.last_penalty = state["penalty"].to(self.losses.device)
        with torch.no_grad():
            for name, leaf in self.leaves.items():
                leaf.copy_(state[f"leaf/{name}"])
                kept = {key: state[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
                self.optimiser.state[leaf] = {key: value.to(leaf.device, copy=True) for key, value in kept.items()}
        return int(state["step"])

    def expert(self) -> Expert:
        delta = {n: d.cpu() for n, d in self.method.delta(self.base, self.leaves, **self.options).items()}
        pairs = self.method.factors(self.base, self.leaves, **self.options)
        norms = torch.stack([torch.linalg.vector_norm(d.double()) for d in delta.values()])
        if not torch.isfinite(norms).all():
            raise BenchError(f"{self.training.who}: the weights are not finite after the last step; lower lr")
        tail = self.losses[-math.ceil(TAIL * self.recipe.steps) :]
        metrics = {
            "loss": float(self.losses[-1]),
            "loss_tail": float(tail.mean()),
            "penalty": float(self.last_penalty),
            "update_norm": float(torch.linalg.vector_norm(norms)),
            "steps": float(self.recipe.steps),
            "parameters": float(sum(leaf.numel() for leaf in self.leaves.values())),
        }
        return Expert(delta, pairs and {n: (b.cpu(), a.cpu()) for n, (b, a) in pairs.items()}, metrics)
