"""Several slides a patient: Obuchowski's variance against loops over pairs of slides, and its intervals and
test by simulation; exact bounds against scipy and against all pairings."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from wsi_mil.errors import DataError
from wsi_mil.evaluation.delong import compare_aucs, estimate_auc
from wsi_mil.evaluation.intervals import exact_bound, independent_pairs


def looped(
    truth: np.ndarray, scores: np.ndarray, patients: list[str]
) -> tuple[float, dict[str, list[float]]]:
    """The AUC and, for each patient, the sums of the parts of positives and negatives: pair by pair."""
    positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)

    def wins(i: int, j: int) -> float:
        return 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0

    auc = sum(wins(i, j) for i in positive for j in negative) / (len(positive) * len(negative))
    sums = {patient: [0.0, 0.0] for patient in patients}
    for i in positive:
        sums[patients[i]][0] += sum(wins(i, j) for j in negative) / len(negative) - auc
    for j in negative:
        sums[patients[j]][1] += sum(wins(i, j) for i in positive) / len(positive) - auc
    return auc, sums


def by_hand(truth: np.ndarray, first: np.ndarray, second: np.ndarray, patients: list[str]) -> float:
    """Obuchowski 1997, equations for S10, S01 and S11, of two scores of the same slides."""
    _, one = looped(truth, first, patients)
    _, other = looped(truth, second, patients)
    m, n = int(truth.sum()), int((~truth).sum())
    i10 = len({p for p, positive in zip(patients, truth, strict=True) if positive})
    i01 = len({p for p, positive in zip(patients, truth, strict=True) if not positive})
    i = len(set(patients))
    s10 = i10 / ((i10 - 1) * m) * sum(one[p][0] * other[p][0] for p in one)
    s01 = i01 / ((i01 - 1) * n) * sum(one[p][1] * other[p][1] for p in one)
    s11 = i / (i - 1) * sum(one[p][0] * other[p][1] for p in one)
    s11_other = i / (i - 1) * sum(other[p][0] * one[p][1] for p in one)
    return s10 / m + s01 / n + (s11 + s11_other) / (m * n)


@pytest.mark.parametrize("seed", range(4))
def test_the_variance_is_that_of_loops_over_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patients = [f"p{n}" for n in rng.integers(0, 9, 31)]  # patients of unequal size, some with both classes
    truth = rng.random(31) < 0.4
    first, second = (np.round(rng.normal(size=31) + truth, 1) for _ in range(2))  # ties occur
    found = compare_aucs(truth, first, second, patients=patients)
    alone = estimate_auc(truth, first, patients=patients)
    assert found.first == alone.auc == pytest.approx(looped(truth, first, patients)[0])
    assert alone.variance == pytest.approx(by_hand(truth, first, first, patients))
    assert found.covariance == pytest.approx(by_hand(truth, first, second, patients))
    other = by_hand(truth, second, second, patients)
    assert found.variance == pytest.approx(alone.variance + other - 2 * found.covariance)
    assert (alone.method, found.method, alone.n_patients) == ("Obuchowski", "Obuchowski", len(set(patients)))


def test_copies_of_slides_add_no_precision() -> None:
    """Three equal slides of every patient: the standard error is about that of one slide of each."""
    rng = np.random.default_rng(5)
    truth = np.arange(80) < 40
    scores = rng.normal(size=80) + truth
    alone = estimate_auc(truth, scores)
    threefold = estimate_auc(
        np.repeat(truth, 3), np.repeat(scores, 3), patients=[str(i // 3) for i in range(240)]
    )
    assert threefold.se == pytest.approx(alone.se)
    assert estimate_auc(np.repeat(truth, 3), np.repeat(scores, 3)).se == pytest.approx(
        alone.se / math.sqrt(3), rel=0.02
    )


def cohort(rng: np.random.Generator, patients: int, slides: int, auc: float) -> tuple[np.ndarray, ...]:
    """Truth, patient and a patient effect of `patients` of each class with `slides` each."""
    truth = np.arange(2 * patients * slides) < patients * slides
    patient = np.arange(len(truth)) // slides
    shift = math.sqrt(2) * norm.ppf(auc)
    effect = rng.normal(size=2 * patients)[patient]
    return truth, patient, truth * shift + math.sqrt(0.7) * effect


def test_intervals_cover_and_the_test_keeps_its_level() -> None:
    """Twelve patients of each class with four slides: coverage within 2.5 standard errors of 95 %, a level
    of at most 5 %: with so few patients the test is conservative."""
    rng, runs = np.random.default_rng(11), 500
    covered = naive = rejected = 0
    for _ in range(runs):
        truth, patient, effect = cohort(rng, 12, 4, 0.85)
        first, second = (effect + math.sqrt(0.3) * rng.normal(size=len(truth)) for _ in range(2))
        names = [str(p) for p in patient]
        found = estimate_auc(truth, first, patients=names)
        covered += found.stated.low <= 0.85 <= found.stated.high
        low, high = estimate_auc(truth, first).logit_interval
        naive += low <= 0.85 <= high
        rejected += compare_aucs(truth, first, second, patients=names).p_two_sided < 0.05
    error = 2.5 * math.sqrt(0.95 * 0.05 / runs)
    assert abs(covered / runs - 0.95) < error
    assert rejected / runs < 0.05 + error
    assert naive / runs < 0.85  # slides taken as independent


def test_two_patients_of_each_class_are_needed() -> None:
    truth = np.array([True, True, True, False, False])
    with pytest.raises(DataError, match="got 1 with positive and 2 with negative slides"):
        estimate_auc(truth, np.arange(5.0), patients=["a", "a", "a", "b", "c"])


@pytest.mark.parametrize("trials", [1, 2, 18, 49])
def test_the_bound_is_the_lower_limit_of_clopper_and_pearson(trials: int) -> None:
    low = binomtest(trials, trials).proportion_ci(0.90, "exact").low  # 5 % on either side
    assert exact_bound(1.0, trials).low == pytest.approx(low)
    assert exact_bound(0.0, trials).high == pytest.approx(1 - low)


def test_independent_pairs_are_the_most_that_can_be_formed() -> None:
    def most(slides: list[tuple[bool, str]]) -> int:
        best = 0
        for index, (positive, patient) in enumerate(slides):
            if not positive:
                continue
            for negative, other in slides:
                if not negative and other != patient:
                    rest = [s for s in slides[index + 1 :] if s[1] not in (patient, other)]
                    before = [s for s in slides[:index] if not s[0] and s[1] not in (patient, other)]
                    best = max(best, 1 + most(before + rest))
        return best

    for truth in itertools.product((True, False), repeat=6):
        for patients in ("abcdef", "aabbcc", "aaabcd", "abcabc"):
            expected = most(list(zip(truth, patients, strict=True)))
            assert independent_pairs(np.array(truth), list(patients)) == expected, (truth, patients)


def test_scores_without_spread_have_no_stated_limits() -> None:
    found = estimate_auc(np.array([True, True, False, False]), np.ones(4))
    assert (found.auc, found.stated.defined) == (0.5, False)
