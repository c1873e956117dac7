"""The tie of label and centre against brute force, scikit-learn, scipy, and cohorts with a known tie."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from sklearn.metrics import roc_auc_score

from tests.robustness.sites.cohorts import cohort
from wsi_mil.robustness.sites.tie import centre_alone_auc, cramers_v, label_tie, permutation_p


def by_brute_force(centres: list[str], positive: list[bool], patients: list[str]) -> float:
    """The leave-pair-out AUC, one pair of slides after the other."""
    won: list[float] = []
    for i, j in itertools.product(range(len(centres)), repeat=2):
        if not positive[i] or positive[j] or patients[i] == patients[j]:
            continue
        rest = [r for r in range(len(centres)) if patients[r] not in (patients[i], patients[j])]

        def fraction(centre: str, rest: list[int] = rest) -> float:
            own = [positive[r] for r in rest if centres[r] == centre] or [positive[r] for r in rest]
            return sum(own) / len(own) if own else 0.0

        a, b = fraction(centres[i]), fraction(centres[j])
        won.append(0.5 if math.isclose(a, b) else float(a > b))
    return sum(won) / len(won) if won else math.nan


@pytest.mark.parametrize("seed", range(12))
def test_the_auc_of_the_centre_alone_is_that_of_every_pair(seed: int) -> None:
    """Patients have one to three slides, some in two centres; centres differ in size."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(6, 40))
    centres = [f"c{n}" for n in rng.choice(4, count, p=[0.5, 0.3, 0.15, 0.05])]
    patients = [f"p{n}" for n in rng.integers(0, max(count // 2, 3), count)]
    positive = rng.random(count) < 0.4
    expected = by_brute_force(centres, positive.tolist(), patients)
    assert centre_alone_auc(centres, positive, patients) == pytest.approx(expected, nan_ok=True)


def test_without_a_tie_the_expectation_is_one_half() -> None:
    found = [
        (c := cohort(seed, 0, 0, 0, 40, 4)) and centre_alone_auc(c.centres, c.positive, c.patients)
        for seed in range(400)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("tie", "expected"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_a_known_tie_gives_its_auc(tie: float, expected: float) -> None:
    """P(positive) is (1 + t) / 2 and (1 - t) / 2 in two equal centres: the AUC is (1 + t) / 2."""
    large = cohort(0, tie, 0, 0, 4000)
    found = label_tie(large.centres, large.positive, large.patients, np.random.default_rng(0), 99)
    assert found.auc == pytest.approx(expected, abs=0.03)
    assert found.guessable == (tie > 0)
    if tie:  # leaving pairs out of many slides changes next to nothing
        fraction = {c: large.positive[np.array(large.centres) == c].mean() for c in ("c0", "c1")}
        apparent = roc_auc_score(large.positive, [fraction[c] for c in large.centres])
        assert found.auc == pytest.approx(apparent, abs=0.001)
        assert found.cramers_v == pytest.approx(tie, abs=0.03)
        assert found.p_value == pytest.approx(0.01)


def test_cramers_v_is_that_of_chi_squared() -> None:
    partial = cohort(1, 0.4, 0, 0, 90, 3)
    sites = np.array(partial.centres)
    table = [
        [int((partial.positive[sites == c] == v).sum()) for v in (True, False)] for c in set(partial.centres)
    ]
    chi2 = chi2_contingency(table, correction=False).statistic
    assert cramers_v(partial.centres, partial.positive) == pytest.approx(math.sqrt(chi2 / 90))
    assert math.isnan(cramers_v(["a"] * 4, np.array([True, False, True, False])))
    assert math.isnan(cramers_v(["a", "b"], np.array([True, True])))


def test_p_is_near_that_of_chi_squared_and_uniform_without_a_tie() -> None:
    partial = cohort(4, 0.25, 0, 0, 200, 2)
    sites = np.array(partial.centres)
    table = [[int((partial.positive[sites == c] == v).sum()) for v in (True, False)] for c in ("c0", "c1")]
    expected = chi2_contingency(table, correction=False).pvalue
    found = permutation_p(partial.centres, partial.positive, partial.patients, np.random.default_rng(0), 1999)
    assert found == pytest.approx(expected, abs=0.03)
    null = [cohort(seed, 0, 0, 0, 60, 3) for seed in range(200)]
    low = [
        permutation_p(c.centres, c.positive, c.patients, np.random.default_rng(0), 99) < 0.05 for c in null
    ]
    assert np.mean(low) < 0.1


def test_slides_of_one_patient_are_not_several_witnesses() -> None:
    """Two patients with twenty slides each in centres of their own say nothing: p is 1, the AUC 0.5."""
    centres, positive = ["a"] * 20 + ["b"] * 20, np.repeat([True, False], 20)
    found = label_tie(centres, positive, ["p"] * 20 + ["q"] * 20, np.random.default_rng(0))
    assert found.p_value == 1.0
    assert found.auc == 0.5
    assert not found.guessable


def test_counts_and_one_class() -> None:
    found = label_tie(
        ["b", "a", "a"], np.array([False, False, False]), ["p", "q", "q"], np.random.default_rng(0)
    )
    assert [(c.centre, c.slides, c.positive, c.patients) for c in found.centres] == [
        ("a", 2, 0, 1),
        ("b", 1, 0, 1),
    ]
    assert math.isnan(found.auc)
    assert not found.guessable


def test_many_centres_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(0)
    centres = [f"c{n}" for n in rng.integers(0, 200, 10_000)]
    positive = rng.random(10_000) < 0.5
    assert centre_alone_auc(centres, positive, [str(i) for i in range(10_000)]) == pytest.approx(
        0.5, abs=0.05
    )
