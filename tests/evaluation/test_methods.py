"""Methods compared over trainings: the corrected resampled t by hand and by simulation, Holm by R's."""

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from wsi_mil.evaluation.methods import compare_trainings, holm


def test_the_formula_of_nadeau_and_bengio() -> None:
    first, second = [0.91, 0.85, 0.88, 0.94], [0.86, 0.87, 0.80, 0.90]
    found = compare_trainings(first, second, list("abcd"), test_to_train=0.25)
    # differences .05 -.02 .08 .04: mean .0375; squared deviations .00015625 .00330625 .00180625 .00000625
    error = math.sqrt((1 / 4 + 0.25) * 0.005275 / 3)
    assert found.difference == pytest.approx(0.0375)
    assert found.t == pytest.approx(0.0375 / error)
    assert found.p_two_sided == pytest.approx(2 * t.sf(0.0375 / error, 3))
    assert found.high - found.low == pytest.approx(2 * t.ppf(0.975, 3) * error)
    assert (found.splits, found.trainings, found.test) == (4, 4, "corrected resampled t")


def test_without_overlap_it_is_the_t_test() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=12), rng.normal(size=12)
    found = compare_trainings(first.tolist(), second.tolist(), [str(n) for n in range(12)], test_to_train=0.0)
    expected = ttest_1samp(first - second, 0)
    assert (found.t, found.p_two_sided) == pytest.approx((expected.statistic, expected.pvalue))


def test_seeds_of_a_split_are_averaged() -> None:
    first, second = [0.9, 0.7, 0.8, 0.8, 0.5, math.nan], [0.6, 0.8, 0.7, 0.5, 0.5, 0.9]
    found = compare_trainings(first, second, list("aabbcc"), 0.5)
    means = compare_trainings([0.8, 0.8, 0.5], [0.7, 0.6, 0.5], list("abc"), 0.5)
    assert (found.difference, found.t) == pytest.approx((means.difference, means.t))
    assert (found.splits, found.trainings) == (3, 5)


def test_one_split_is_tested_over_seeds() -> None:
    found = compare_trainings([0.9, 0.8, 0.7], [0.7, 0.7, 0.7], ["a"] * 3, 0.5)
    expected = ttest_1samp([0.2, 0.1, 0.0], 0)
    assert (found.test, found.splits) == ("paired t over seeds", 1)
    assert found.p_two_sided == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([0.9], [0.8], "one training of each"),
        ([0.9, 0.8], [0.8, 0.7], "the same in all trainings"),
        ([math.nan], [0.8], "no training of both has this metric"),
    ],
)
def test_what_cannot_be_tested_has_no_p(first: list[float], second: list[float], reason: str) -> None:
    found = compare_trainings(first, second, list("ab")[: len(first)], 0.5)
    assert reason in found.reason
    assert math.isnan(found.p_two_sided)


def test_equal_methods_differ_in_five_percent_of_cohorts() -> None:
    """Ten random splits of 60 slides; a method is the nearest class mean on one half of the features.

    The two halves have the same distribution. The plain t test takes the ten trainings as independent.
    """
    rng, cohorts, splits = np.random.default_rng(4), 400, 10
    rejected = plain = 0
    for _ in range(cohorts):
        truth = np.arange(60) % 2
        features = rng.normal(size=(60, 8)) + 0.35 * truth[:, None]
        accuracy = np.empty((splits, 2))
        for split in range(splits):
            order = rng.permutation(60)
            train, test = order[:40], order[40:]
            for method, part in enumerate((slice(0, 4), slice(4, 8))):
                means = [features[train][truth[train] == label, part].mean(0) for label in (0, 1)]
                far = [((features[test][:, part] - mean) ** 2).sum(1) for mean in means]
                accuracy[split, method] = ((far[1] < far[0]) == truth[test]).mean()
        names = [str(n) for n in range(splits)]
        rejected += compare_trainings(*accuracy.T.tolist(), names, test_to_train=0.5).p_two_sided < 0.05
        plain += ttest_1samp(accuracy[:, 0] - accuracy[:, 1], 0).pvalue < 0.05
    assert rejected / cohorts < 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / cohorts)
    assert plain / cohorts > 0.2


def test_holm_equals_p_adjust_of_r() -> None:
    """p.adjust(c(.01, .02, .03, .04, .05), "holm") is .05 .08 .09 .09 .09."""
    found = holm([0.03, 0.01, math.nan, 0.05, 0.02, 0.04])
    np.testing.assert_allclose(found, [0.09, 0.05, math.nan, 0.09, 0.08, 0.09])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
