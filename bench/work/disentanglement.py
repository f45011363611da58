"""Weight-disentanglement error of two task vectors on a square (Ortiz-Jimenez et al., 2023, arXiv:2305.12827).

    xi(a_1, a_2) = sum_t E_{x of task t} [ f(x; theta_0 + a_t tau_t) != f(x; theta_0 + a_1 tau_1 + a_2 tau_2) ]

with predictions f by the zero-shot head of task t. It is 0 where adding the other task changes no prediction, and at
most 2. Stored as integers: how many images of each task change their class.

A tangent model is affine in the coefficients, so f_0, J tau_1 and J tau_2 of every image serve the whole square: two
directional derivatives instead of one forward per point. Post-hoc linearisation evaluates ordinary experts in that way.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from bench.pixels.images import Images
from bench.work.backbone import Backbone
from bench.work.evaluate import Evaluator, predict
from methods.vectors import TaskVector

Features = Callable[[float, float], Tensor]
"""`features(a_1, a_2)`, [images, embed]."""


def disagreements(classes: Tensor, zero: int, own: int) -> Tensor:
    """int64 [n, n]: images that both task vectors together put into another class than task `own`'s vector alone.

    classes: predictions [n, n, images] by place of a_1 and a_2; `zero` is the place of coefficient 0.
    """
    alone = classes[:, zero].unsqueeze(1) if own == 0 else classes[zero].unsqueeze(0)
    return (classes != alone).sum(dim=-1)


def error(counts: Sequence[Tensor], totals: Sequence[int]) -> list[list[float]]:
    """xi [n, n] from disagreements and the numbers of images, at six decimals."""
    shares = [count.double() / total for count, total in zip(counts, totals, strict=True)]
    return [[round(x, 6) for x in line] for line in torch.stack(shares).sum(dim=0).tolist()]


@torch.inference_mode()
def predictions(
    evaluator: Evaluator,
    vectors: Sequence[Mapping[str, Tensor]],
    coefficients: Sequence[float],
    images: Images,
    head: Tensor,
    *,
    tangent: bool,
) -> Tensor:
    """Classes int64 [n, n, images] that theta_0 + a_1 tau_1 + a_2 tau_2 predicts, by place of a_1 and a_2."""
    backbone = evaluator.backbone
    moves = [{name: t.to(backbone.device) for name, t in vector.items()} for vector in vectors]
    batches = [x for x, _ in evaluator.batches(images)]
    features = (_tangent if tangent else _plain)(backbone, moves, batches)
    lines = [torch.stack([predict(features(a, b), head) for b in coefficients]) for a in coefficients]
    return torch.stack(lines).cpu()


def _plain(backbone: Backbone, moves: Sequence[TaskVector], batches: Sequence[Tensor]) -> Features:
    """One forward for every point."""
    base, (one, two) = backbone.pretrained, moves

    def features(a: float, b: float) -> Tensor:
        params = {**base, **{n: base[n] + a * one[n] + b * two[n] for n in one}}
        return torch.cat(list(map(backbone.tower.frozen(params), batches)))

    return features


def _tangent(backbone: Backbone, moves: Sequence[TaskVector], batches: Sequence[Tensor]) -> Features:
    """One forward and two directional derivatives for all points."""
    duals = [list(map(backbone.tower.frozen_dual(backbone.pretrained, move), batches)) for move in moves]
    f0 = torch.cat([value for value, _ in duals[0]])
    one, two = (torch.cat([moved for _, moved in along]) for along in duals)
    return lambda a, b: f0 + a * one + b * two
