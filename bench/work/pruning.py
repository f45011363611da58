"""A sweep that stops at every coefficient as soon as it can no longer win: `bench run --runtime prune=true`.

Of a coefficient that has seen s_t of the n_t validation images of task t and got c_t of them right, no more can come
than if every image that is left were right:

    value <= mean_t ((c_t + n_t - s_t) / n_t) / reference_t

Below the best value of a finished coefficient, or level with it at a larger coefficient (ties go to the smaller), it is
out. So the choice is that of the whole sweep by construction, and the test rows are the same. What is missing is the
rest of the curve: a coefficient that was stopped has no rows.

It saves little where the best coefficient gets many images wrong, and more the better it is: at 90 % right, one at 80 %
is out after half of the images.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from bench.ground.metrics import accuracy, normalised_accuracy
from bench.pixels.images import Images
from bench.work.evaluate import Evaluator, Scaled


def sweep(
    evaluator: Evaluator,
    merged: Mapping[str, Tensor],
    scalings: Sequence[float],
    tasks: Mapping[str, tuple[Images, Tensor]],
    reference: Mapping[str, float],
    rivals: Mapping[float, Sequence[Tensor]] | None = None,
) -> dict[float, Sequence[Tensor]]:
    """Bool [images] for every task, of the coefficients that could win until their last image; ascending.

    rivals: likewise, of other coefficients that these have to beat
    """
    params = Scaled(evaluator.backbone.pretrained, merged)
    names, sets = list(tasks), list(tasks.values())
    sizes = {task: len(images) for task, (images, _) in tasks.items()}
    finished: dict[float, Sequence[Tensor]] = {}
    best, winner = -1.0, 0.0
    for scaling, by_task in sorted((rivals or {}).items()):
        value = bound({t: int((~r).sum()) for t, r in zip(tasks, by_task, strict=True)}, sizes, reference)
        best, winner = max((best, winner), (value, scaling), key=lambda pair: pair[0])
    for scaling in spread(sorted(scalings)):
        parts: dict[str, list[Tensor]] = {task: [] for task in tasks}
        wrong, value = dict.fromkeys(tasks, 0), 0.0
        whole = enumerate(evaluator.untouched(*one) for one in sets)
        for place, right in evaluator.batchwise(params.at(scaling), sets) if scaling else whole:
            task = names[place]
            parts[task].append(right)
            wrong[task] += int((~right).sum())
            value = bound(wrong, sizes, reference)
            if value < best or (value == best and scaling > winner):
                break
        else:
            finished[scaling] = [torch.cat(bits).cpu() for bits in parts.values()]
            best, winner = value, scaling
    return dict(sorted(finished.items()))


def bound(wrong: Mapping[str, int], sizes: Mapping[str, int], reference: Mapping[str, float]) -> float:
    """The mean normalised accuracy if every image that was not seen yet is right; the value once all were seen."""
    return normalised_accuracy({task: accuracy(n - wrong[task], n) for task, n in sizes.items()}, reference)


def spread(values: Sequence[float]) -> Iterator[float]:
    """The middle value, then the middles of both halves, and so on: a good coefficient comes early."""
    parts = [values]
    while parts:
        part = parts.pop(0)
        if part:
            middle = len(part) // 2
            yield part[middle]
            parts += [part[:middle], part[middle + 1 :]]
