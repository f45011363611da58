"""Is a difference real? Paired stratified bootstrap, exact McNemar, Wilson, Holm, tie groups.

Estimand: the mean over *these* tasks, fixed, of the expected accuracy (or difference of accuracies), each task counting
the same. What is random are the test images within each task and, from three seeds on, the seeds. Everything is
paired: two models are compared on the same images and the same seeds, which the stored correctness bits allow.

With fewer than three seeds a statement holds for these seeds only. From three on, seeds are the outer level, and the
error of their mean is drawn from Student's t: resampling three seeds with replacement would cover 75 % instead of
95 %. Three seeds say little about a variance (two degrees of freedom), so it is moderated by the other rows of the
same results, as is usual for many small experiments (Smyth 2004, "Linear models and empirical Bayes methods"):
`seed_prior`. All seeds share the test images, so one resample of images serves all seeds; the image-by-seed residual,
which both levels contain, is taken out of the image level so that it counts once.

The difference's p-value is McNemar's score test carried over to a mean over tasks; with several seeds the seed error
is added in the same way (a Behrens-Fisher tail). It is a closed form, so Holm over hundreds of rows has no floor.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]
Outcome = Sequence[npt.NDArray[np.int8]]
"""Per task an array [seeds, images]: correctness (0, 1) of one model, or a difference of two (-1, 0, 1)."""

DRAWS = 10_000
CONFIDENCE = 0.95
POWER = 0.8
OUTER_SEEDS = 3
"""From this many seeds on, seeds are a level of their own."""
_MOST_PATTERNS = 64
_KEPT_WEIGHTS = 20_000_000
_FEWEST_ROWS = 5
_MOST_FREEDOM = 10.0
"""A prior is worth ten more seeds at most, so that an unusually restless row still speaks for itself."""


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks with what is known about its error. All values are rates, not percent."""

    value: float
    low: float
    high: float
    error: float
    """standard error"""
    p: float
    """two-sided, of the hypothesis that the value is 0; only meaningful for differences"""
    detectable: float
    """smallest true difference that this measurement would find with 80 % power"""
    seeds: int


@dataclass(frozen=True)
class SeedPrior:
    """What other rows say about the variance between seeds: a value and how many degrees of freedom it is worth."""

    variance: float
    freedom: float


@dataclass(frozen=True)
class _Parts:
    """Moments of one outcome: image level and seed level."""

    value: float
    seeds: int
    images: float  # variance of the value from drawing images, estimated around the mean
    images_null: float  # the same around 0, as McNemar has it
    kept: float  # share of the image variance that is not image-by-seed residual
    seed_error: float  # standard error of the mean over seeds, 0 with fewer than OUTER_SEEDS
    freedom: float  # its degrees of freedom


def estimates(
    outcomes: Sequence[Outcome],
    *,
    priors: Sequence[SeedPrior | None] = (),
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> list[Estimate]:
    """Means over tasks of several outcomes on the same images, with percentile intervals from joint resamples.

    Every outcome has the same tasks and images; the number of seeds may differ. Same input, same intervals.
    `priors`, one for each outcome, moderate the variance between seeds; without one an outcome has only its own seeds
    to judge by.
    """
    if not outcomes:
        return []
    rng = np.random.default_rng([seed, len(outcomes[0])])
    tasks = range(len(outcomes[0]))
    summed = [np.stack([o[t].sum(axis=0, dtype=np.int32) for o in outcomes]) for t in tasks]
    means = resample(summed, draws, seed)
    tail = (1 - confidence) / 2
    found = []
    for column, (outcome, prior) in enumerate(zip(outcomes, priors or [None] * len(outcomes), strict=True)):
        part = _parts(outcome, prior)
        drawn = means[:, column] / part.seeds
        if part.seeds >= OUTER_SEEDS:
            drawn = part.value + np.sqrt(part.kept) * (drawn - part.value)
            drawn += part.seed_error * rng.standard_t(part.freedom, size=draws)
        low, high = (float(v) for v in np.quantile(drawn, [tail, 1 - tail]))
        error = float(np.sqrt(part.kept * part.images + part.seed_error**2))
        detectable = (high - low) / 2 + float(special.ndtri(POWER)) * error
        found.append(Estimate(part.value, low, high, error, _p_value(part), detectable, part.seeds))
    return found


def p_value(outcome: Outcome, prior: SeedPrior | None = None) -> float:
    """Two-sided p-value of "the mean over tasks of this difference is 0"; the `p` of `estimates` without its draws."""
    return _p_value(_parts(outcome, prior))


def seed_prior(accuracies: npt.ArrayLike, *, paired: bool) -> SeedPrior | None:
    """Prior for the variance between seeds from mean accuracies [seeds, rows] of comparable rows.

    paired: for a difference of two rows, what all rows have in common in a seed is removed first and the variance
    doubled; otherwise for the accuracy of one row. The moments of the log variances give value and degrees of
    freedom (Smyth 2004, section 6.2). None with fewer than three seeds or five rows.
    """
    x = np.asarray(accuracies, dtype=np.float64)
    seeds, rows = x.shape
    if seeds < OUTER_SEEDS or rows < _FEWEST_ROWS:
        return None
    x = x - x.mean(axis=0)
    if paired:
        x = x - x.mean(axis=1, keepdims=True)
    own = (x * x).sum(axis=0) / (seeds - 1) * (rows / (rows - 1) * 2 if paired else 1)
    if own.max() <= 0:
        return None
    half = (seeds - 1) / 2
    logs = np.log(np.maximum(own, 1e-4 * own.mean())) - special.digamma(half) + np.log(half)
    spread = float(logs.var(ddof=1) - special.polygamma(1, half))
    freedom = 2 * _inverse_trigamma(spread) if spread > 0 else np.inf
    freedom = min(freedom, _MOST_FREEDOM)
    return SeedPrior(float(np.exp(logs.mean() + special.digamma(freedom / 2) - np.log(freedom / 2))), freedom)


def resample(values: Sequence[npt.NDArray[np.int32]], draws: int, seed: int) -> Array:
    """Stratified bootstrap means [draws, rows] of integers [rows, images], one array per task.

    Images are drawn within tasks, the same ones for all rows. Images whose values agree in every row are one category,
    so few rows need one multinomial draw per task; many rows need the images' own weights and one matrix product.
    The sums are integers in both, so they do not depend on the machine's arithmetic.
    """
    total = np.zeros((draws, values[0].shape[0]))
    for place, task in enumerate(values):
        images = task.shape[1]
        patterns, counts = np.unique(task, axis=1, return_counts=True)
        if len(counts) <= _MOST_PATTERNS:
            rng = np.random.default_rng([seed, place])
            total += (rng.multinomial(images, counts / images, size=draws) @ patterns.T) / images
            continue
        matrix = task.T.astype(np.float32)  # float32 products of these integers are exact below 2**24
        start = 0
        for weights in _weights(images, draws, seed, place):
            total[start : start + len(weights)] += (weights.astype(np.float32) @ matrix).astype(np.float64) / images
            start += len(weights)
    return total / len(values)


def _weights(images: int, draws: int, seed: int, place: int) -> Iterable[npt.NDArray[np.uint8]]:
    """How often each image is drawn, blocks [some draws, images]; kept for the next rows of the same task if small."""
    if images * draws > _KEPT_WEIGHTS:
        return _drawn_weights(images, draws, seed, place)
    return _kept_weights(images, draws, seed, place)


@lru_cache(maxsize=16)
def _kept_weights(images: int, draws: int, seed: int, place: int) -> list[npt.NDArray[np.uint8]]:
    return list(_drawn_weights(images, draws, seed, place))


def _drawn_weights(images: int, draws: int, seed: int, place: int) -> Iterator[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng([seed, place])
    block = max(1, 2_000_000 // images)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = rng.integers(0, images, size=(size, images)) + np.arange(size)[:, None] * images
        yield np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images).astype(np.uint8)


def mcnemar(outcome: npt.NDArray[np.int8]) -> tuple[int, int, float]:
    """Exact McNemar test on one task: images won by the first model, by the second, two-sided p-value.

    outcome [seeds, images] holds differences in {-1, 0, 1}. With several seeds an image counts for the model that
    wins it in more of them, because the seeds share their images and are no independent trials.
    """
    net = outcome.sum(axis=0, dtype=np.int32)
    won, lost = int((net > 0).sum()), int((net < 0).sum())
    if won + lost == 0:
        return won, lost, 1.0
    return won, lost, min(1.0, 2 * float(special.bdtr(min(won, lost), won + lost, 0.5)))


def wilson(correct: float, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval for one accuracy; `correct` may be a mean over seeds that share their images."""
    z = float(special.ndtri(0.5 + confidence / 2))
    centre = (correct + z * z / 2) / (total + z * z)
    half = z / (total + z * z) * (correct * (total - correct) / total + z * z / 4) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(tasks: Sequence[Array], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of a sum over tasks of means over images, [images] of shares of a rate, where images are what is random.

    For averages whose images carry other weights than those of `estimates`, such as means over subsets of the tasks.
    """
    value = sum(float(shares.mean()) for shares in tasks)
    variance = sum(float(shares.var()) / len(shares) for shares in tasks)
    half = float(special.ndtri(0.5 + confidence / 2)) * variance**0.5
    return max(0.0, value - half), min(1.0, value + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: reject where below alpha and the family's error stays below
    alpha.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def tie_groups(
    values: Sequence[float], p_of: Callable[[int, Sequence[int]], Sequence[float]], alpha: float = 1 - CONFIDENCE
) -> list[int]:
    """Group number of every row, 1 = the best row and all that cannot be told from it; then the best of the rest, ...

    `p_of(leader, others)` gives the p-values of the leader against the others; Holm is applied over those others.
    """
    group = [0] * len(values)
    left = sorted(range(len(values)), key=lambda i: (-values[i], i))
    number = 0
    while left:
        number += 1
        leader, others = left[0], left[1:]
        group[leader] = number
        tied = {i for i, p in zip(others, holm(p_of(leader, others)), strict=True) if p >= alpha}
        for index in tied:
            group[index] = number
        left = [i for i in others if i not in tied]
    return group


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value > 0, by Newton's steps on 1 / trigamma, which is nearly linear."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        x += trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
    return x


def _parts(outcome: Outcome, prior: SeedPrior | None) -> _Parts:
    seeds, tasks = outcome[0].shape[0], len(outcome)
    per_seed = np.zeros(seeds)
    images = images_null = residual = 0.0
    for task in outcome:
        n = task.shape[1]
        by_image, by_seed = task.sum(axis=0, dtype=np.int64), task.sum(axis=1, dtype=np.int64)
        mean, square = by_seed.sum() / (seeds * n), float(by_image @ by_image) / seeds**2  # square: of the image means
        per_seed += by_seed / n / tasks
        share = 1 / (tasks * tasks * n)
        images += share * max(0.0, square / n - mean**2)
        images_null += share * square / n
        if seeds >= OUTER_SEEDS:  # residual sum of squares of seeds x images; entries are -1, 0, 1
            entries, of_seeds = np.count_nonzero(task), float(by_seed @ by_seed) / n
            rest = entries - seeds * square - of_seeds + seeds * n * mean**2
            residual += share * max(0.0, rest) / ((seeds - 1) * max(1, n - 1))
    variance, freedom = 0.0, float(seeds - 1)
    if seeds >= OUTER_SEEDS:
        variance = float(per_seed.var(ddof=1))
        if prior is not None:
            variance = (prior.freedom * prior.variance + freedom * variance) / (prior.freedom + freedom)
            freedom += prior.freedom
    kept = max(0.0, 1 - residual / seeds / images) if images > 0 else 1.0
    return _Parts(float(per_seed.mean()), seeds, images, images_null, kept, (variance / seeds) ** 0.5, freedom)


def _p_value(part: _Parts) -> float:
    size = abs(part.value)
    image_error = (part.kept * part.images_null) ** 0.5
    if size == 0.0:
        return 1.0
    if part.seed_error == 0.0:
        return float(2 * special.ndtr(-size / image_error)) if image_error else 0.0
    if image_error == 0.0:
        return float(2 * special.stdtr(part.freedom, -size / part.seed_error))
    z = np.linspace(-9, 9, 1801)  # image errors in standard units, integrated out under the seeds' Student tail
    density = np.exp(-z * z / 2)
    tails = special.stdtr(part.freedom, -(size - image_error * z) / part.seed_error)
    return min(1.0, float(2 * (density * tails).sum() / density.sum()))
