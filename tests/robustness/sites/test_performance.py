"""Slide AUC by centre against scikit-learn."""

import math

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from tests.robustness.sites.cohorts import cohort
from wsi_mil.robustness.sites.performance import auc_within, model_by_centre


def test_the_auc_of_each_centre_and_the_worst() -> None:
    c = cohort(0, 0, 0, 0, 120, 3)
    rng = np.random.default_rng(0)
    sites = np.array(c.centres)
    scores = rng.normal(size=120) + 3 * c.positive * (sites != "c1")  # nothing in centre c1
    found = model_by_centre("m", ("d",), c.positive, scores, c.centres, c.patients, 0, 200)
    for row in found.centres:
        own = sites == row.centre
        assert row.auc.value == pytest.approx(roc_auc_score(c.positive[own], scores[own]))
        assert row.auc.interval is not None
        assert row.auc.interval.low <= row.auc.value <= row.auc.interval.high
        assert (row.slides, row.positive) == (own.sum(), c.positive[own].sum())
    assert found.worst is not None
    assert found.worst.centre == "c1"
    assert found.all_slides.value == pytest.approx(roc_auc_score(c.positive, scores))


def test_within_centres_is_the_mean_over_pairs_of_one_centre() -> None:
    c = cohort(2, 0.5, 0, 0, 60, 3)
    scores = np.random.default_rng(0).integers(0, 5, 60).astype(float)
    won = [
        0.5 * (scores[i] == scores[j]) + (scores[i] > scores[j])
        for i in range(60)
        for j in range(60)
        if c.positive[i] and not c.positive[j] and c.centres[i] == c.centres[j]
    ]
    assert auc_within(c.positive, scores, c.centres) == pytest.approx(np.mean(won))


def test_a_model_of_the_centre_has_one_half_within_centres() -> None:
    c = cohort(0, 0.8, 0, 0, 200)
    scores = np.array([float(name == "c0") for name in c.centres])
    found = model_by_centre("m", (), c.positive, scores, c.centres, c.patients, 0, 50)
    assert found.within.value == 0.5
    assert found.all_slides.value > 0.85


def test_a_perfect_model_has_exact_bounds() -> None:
    """Three independent pairs in one centre and two in the other: the bound of five trials."""
    truth = np.array([True] * 3 + [False] * 4 + [True] * 2 + [False] * 2)
    centres = ["a"] * 7 + ["b"] * 4
    found = model_by_centre("m", (), truth, truth * 1.0, centres, [f"p{i}" for i in range(11)], 0, 50)
    assert found.within.value == 1.0
    assert found.within.interval is not None
    assert found.within.interval.low == pytest.approx(beta.ppf(0.05, 5, 1))
    assert found.within.interval.one_sided


def test_centres_of_one_class_are_undefined_with_a_reason() -> None:
    c = cohort(0, 1, 0, 0, 40)
    scores = c.positive.astype(float)
    found = model_by_centre("m", (), c.positive, scores, c.centres, c.patients, 0, 50)
    assert [row.auc.defined for row in found.centres] == [False, False]
    assert found.worst is None
    assert math.isnan(found.within.value)
    assert found.within.reason == "no centre has a positive and a negative slide"
