"""Hand-worked values, scipy as reference, and coverage by simulation."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

from bench.tables import stats


def outcome(*tasks):
    """Tasks given as lists of seeds, seeds as lists of values."""
    return [np.array(task, dtype=np.int8) for task in tasks]


def test_mcnemar_equals_scipys_exact_binomial_test():
    for won, lost in ((0, 0), (1, 0), (5, 5), (9, 1), (24, 3), (40, 61)):
        values = np.array([[1] * won + [-1] * lost + [0] * 7], dtype=np.int8)
        expected = scipy.stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
        assert stats.mcnemar(values) == (won, lost, pytest.approx(expected))


def test_mcnemar_by_hand():
    # four images won, none lost: both tails of (1/2)^4
    assert stats.mcnemar(np.array([[1, 1, 1, 1, 0]], dtype=np.int8))[2] == pytest.approx(2 / 16)


def test_mcnemar_counts_an_image_once_however_many_seeds_saw_it():
    values = np.array([[1, 1, 0, -1], [1, -1, 0, -1], [1, 0, 0, 1]], dtype=np.int8)  # nets 3, 0, 0, -1
    assert stats.mcnemar(values)[:2] == (1, 1)


def test_wilson_equals_scipy():
    for correct, total in ((0, 10), (10, 10), (7, 10), (512, 1000)):
        expected = scipy.stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
        assert stats.wilson(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_mean_interval_by_hand():
    """Two tasks of 4 and 2 images, half the weight each: the variance is the sum of p (1 - p) / n / 4."""
    low, high = stats.mean_interval([np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.5, 0.0])])
    half = 1.959964 * (0.25 / 4 / 4 + 0.25 / 2 / 4) ** 0.5
    assert (low, high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert stats.mean_interval([np.ones(5)]) == (1.0, 1.0)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04 -> monotone: 0.04, 0.06, 0.06, 0.06
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert stats.holm([]) == []


def test_one_task_one_seed_is_mcnemars_chi_square():
    won, lost, same = 30, 12, 58
    found = stats.p_value(outcome([[1] * won + [-1] * lost + [0] * same]))
    assert found == pytest.approx(scipy.stats.chi2.sf((won - lost) ** 2 / (won + lost), 1))


def test_every_task_weighs_the_same_whatever_its_size():
    small, large = [[1, 1, 0, 0]], [[0] * 400]
    assert stats.estimates([outcome(small, large)])[0].value == pytest.approx((0.5 + 0.0) / 2)


def test_standard_error_by_hand():
    # task 1: values 1, 0 (variance 1/4, 2 images); task 2: 1, 0, 0, 0 (variance 3/16, 4 images); weight 1/2 each
    found = stats.estimates([outcome([[1, 0]], [[1, 0, 0, 0]])])[0]
    assert found.error == pytest.approx((0.25 * (0.25 / 2) + 0.25 * (3 / 16 / 4)) ** 0.5)


def test_seed_error_by_hand():
    # images agree within a seed, so all variance is between seeds: means 1, 0, 0, error sqrt((1/3) / 3)
    found = stats.estimates([outcome([[1] * 5, [0] * 5, [0] * 5])])[0]
    assert found.value == pytest.approx(1 / 3)
    assert found.error == pytest.approx((1 / 3 / 3) ** 0.5)


def test_seed_p_value_is_students_where_images_say_nothing():
    part = stats._Parts(0.5, 3, images=0.0, images_null=0.0, kept=1.0, seed_error=0.2, freedom=2.0)
    assert stats._p_value(part) == pytest.approx(2 * scipy.stats.t.sf(2.5, 2))


def test_mixed_p_value_lies_between_the_normal_and_students():
    part = stats._Parts(0.5, 3, images=0.02, images_null=0.02, kept=1.0, seed_error=0.02**0.5, freedom=2.0)
    size = 0.5 / 0.2
    assert 2 * scipy.stats.norm.sf(size) < stats._p_value(part) < 2 * scipy.stats.t.sf(size, 2)


def test_moments_equal_those_of_the_whole_table():
    values = np.random.default_rng(4).integers(-1, 2, size=(3, 40)).astype(np.int8)
    part = stats._parts([values], None)
    x = values.astype(float)
    rest = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
    assert part.images == pytest.approx(x.mean(axis=0).var() / 40)
    assert part.images_null == pytest.approx((x.mean(axis=0) ** 2).mean() / 40)
    assert part.seed_error == pytest.approx((x.mean(axis=1).var(ddof=1) / 3) ** 0.5)
    assert part.kept == pytest.approx(max(0, 1 - (rest**2).sum() / (2 * 39) / 40 / 3 / part.images))


def test_two_seeds_are_no_level_of_their_own():
    two = stats.estimates([outcome([[1] * 5, [0] * 5])])[0]
    assert two.error == 0.0
    assert two.seeds == 2


def test_identical_models_differ_by_nothing():
    found = stats.estimates([outcome([[0, 0, 0]] * 3)])[0]
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_few_patterns_and_many_images_draw_from_the_same_distribution(monkeypatch):
    rng = np.random.default_rng(0)
    values = [rng.integers(-1, 2, size=(3, n)).astype(np.int32) for n in (40, 70)]
    by_pattern = stats.resample(values, 20_000, seed=1)
    monkeypatch.setattr(stats, "_MOST_PATTERNS", 0)
    by_image = stats.resample(values, 20_000, seed=2)
    assert (by_image == stats.resample(values, 20_000, seed=2)).all()
    monkeypatch.setattr(stats, "_KEPT_WEIGHTS", 0)
    assert (by_image == stats.resample(values, 20_000, seed=2)).all()
    np.testing.assert_allclose(by_pattern.mean(axis=0), by_image.mean(axis=0), atol=0.002)
    np.testing.assert_allclose(np.cov(by_pattern.T), np.cov(by_image.T), atol=2e-4)
    expected = sum(v.var(axis=1) / v.shape[1] for v in values) / 4
    np.testing.assert_allclose(by_image.var(axis=0), expected, rtol=0.05)


def test_rows_are_resampled_together():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, size=(1, 60)).astype(np.int8)
    first, second, difference = stats.estimates([[a], [a], [a - a]])
    assert (first.low, first.high) == (second.low, second.high)
    assert difference.low == difference.high == 0.0


def test_same_input_same_interval():
    values = outcome(np.random.default_rng(0).integers(-1, 2, size=(3, 50)))
    assert stats.estimates([values]) == stats.estimates([values])


def test_detectable_difference_by_hand():
    values = outcome([[1] * 50 + [-1] * 50 + [0] * 300])
    found = stats.estimates([values], draws=40_000)[0]
    expected = (scipy.stats.norm.ppf(0.975) + scipy.stats.norm.ppf(0.8)) * (0.25 / 400) ** 0.5
    assert found.detectable == pytest.approx(expected, rel=0.02)


def test_tie_groups_by_hand():
    # rows 0 and 1 tied, row 2 below both but so uncertain that it ties with row 0, row 3 alone
    p = {(0, 1): 0.5, (0, 2): 0.2, (0, 3): 0.001}
    assert stats.tie_groups([0.9, 0.8, 0.7, 0.1], lambda lead, others: [p[lead, o] for o in others]) == [1, 1, 1, 2]


def test_tie_groups_apply_holm_over_the_leaders_comparisons():
    # p = 0.03 twice: alone significant, but 2 x 0.03 = 0.06 is not
    assert stats.tie_groups([0.9, 0.8, 0.7], lambda lead, others: [0.03 for _ in others]) == [1, 1, 1]
    assert stats.tie_groups([0.9, 0.8], lambda lead, others: [0.03 for _ in others]) == [1, 2]
    assert stats.tie_groups([0.5], lambda lead, others: []) == [1]
    assert stats.tie_groups([], lambda lead, others: []) == []


def test_seed_prior_needs_three_seeds_and_five_rows():
    assert stats.seed_prior(np.zeros((2, 9)), paired=True) is None
    assert stats.seed_prior(np.random.default_rng(0).random((3, 4)), paired=True) is None
    assert stats.seed_prior(np.ones((3, 9)), paired=True) is None


def test_seed_prior_finds_the_variance_of_a_difference():
    rng = np.random.default_rng(3)
    common = rng.normal(0, 1.0, size=(3, 1))  # what all rows share in a seed is no difference between rows
    prior = stats.seed_prior(common + rng.normal(0, 0.1, size=(3, 400)), paired=True)
    assert prior is not None
    assert prior.variance == pytest.approx(2 * 0.01, rel=0.15)
    assert prior.freedom == 10.0


def test_seed_prior_is_worth_little_where_rows_disagree():
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, size=(3, 200)) * np.exp(rng.normal(0, 2, size=200))
    prior = stats.seed_prior(x, paired=False)
    assert prior is not None
    assert prior.freedom < 2


@pytest.mark.parametrize("value", [0.01, 0.5, 1.6449, 30.0])
def test_inverse_trigamma(value):
    assert scipy.special.polygamma(1, stats._inverse_trigamma(value)) == pytest.approx(value, rel=1e-9)


def coverage(*, seeds, seed_sd, image_sd, repeats, tasks=4, images=150, truth=0.05, draws=600):
    """Share of intervals that cover the truth: differences in {-1, 0, 1} with image and seed effects around `truth`."""
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(repeats):
        drawn = []
        for _task in range(tasks):
            mean = truth + rng.normal(0, image_sd, images) + rng.normal(0, seed_sd, (seeds, 1))
            win, lose = (np.clip(0.12 + sign * mean / 2, 0, 0.5) for sign in (1, -1))
            u = rng.random((seeds, images))
            drawn.append((u < win).astype(np.int8) - (u > 1 - lose).astype(np.int8))
        found = stats.estimates([drawn], draws=draws)[0]
        hits += found.low <= truth <= found.high
    return hits / repeats


def test_interval_covers_at_one_seed():
    assert 0.93 <= coverage(seeds=1, seed_sd=0, image_sd=0.03, repeats=1200) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "seed_sd", "image_sd"),
    [(1, 0, 0), (2, 0, 0.05), (3, 0, 0.05), (3, 0.02, 0.03), (3, 0.05, 0), (5, 0.02, 0.03), (5, 0.05, 0)],
)
def test_interval_covers_whatever_varies(seeds, seed_sd, image_sd):
    assert 0.93 <= coverage(seeds=seeds, seed_sd=seed_sd, image_sd=image_sd, repeats=1500) <= 0.97


@pytest.mark.slow
def test_moderated_interval_covers_on_a_board_of_rows():
    rng = np.random.default_rng(5)
    hits = total = 0
    for _ in range(500):
        shared, own = rng.normal(0, 0.03, (3, 3, 1, 1)), rng.normal(0, 0.02, (3, 3, 12, 1))
        image = rng.uniform(0.25, 0.75, (3, 1, 1, 120))
        right = (rng.random((3, 3, 12, 120)) < image + shared + own).astype(np.int8)  # [task, seed, row, image]
        prior = stats.seed_prior(right.mean(axis=(0, 3)), paired=True)
        pairs = [[task[:, i] - task[:, i + 1] for task in right] for i in (0, 2, 4)]
        for found in stats.estimates(pairs, priors=[prior] * len(pairs), draws=600):
            hits += found.low <= 0 <= found.high
            total += 1
    assert 0.93 <= hits / total <= 0.97
