"""Metrics that a bootstrap computes many times equal those of scikit-learn to the last digit."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from wsi_mil.errors import DataError
from wsi_mil.evaluation.intervals import draws_of_groups
from wsi_mil.evaluation.metrics.accuracy import balanced_accuracy
from wsi_mil.evaluation.metrics.auc import ROC_AREA, auc
from wsi_mil.evaluation.metrics.average_precision import PRECISION_AREA, average_precision
from wsi_mil.evaluation.metrics.f1 import f1

SIZES = [2, 3, 7, 40, 333, 5000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decimals", [1, 2, 17])
def test_values_are_those_of_scikit_learn(size: int, decimals: int, rng: np.random.Generator) -> None:
    for _ in range(20):
        truth = rng.random(size) < rng.uniform(0.05, 0.9)
        truth[:2] = [True, False]
        scores = np.round(rng.random(size) + 0.3 * truth, decimals)
        called = scores > 0.6
        assert auc(truth, scores) == roc_auc_score(truth, scores)
        assert average_precision(truth, scores) == average_precision_score(truth, scores)
        assert f1(truth, called) == f1_score(truth, called)
        assert balanced_accuracy(truth, called) == balanced_accuracy_score(truth, called)


def test_draws_weigh_slides_as_if_their_tiles_were_repeated(rng: np.random.Generator) -> None:
    sizes = [30, 1, 0, 200, 7]
    truths = [rng.random(size) < 0.3 for size in sizes]
    scores = [np.round(rng.random(size), 2) for size in sizes]
    pairs = ((ROC_AREA, roc_auc_score), (PRECISION_AREA, average_precision_score))
    for metric, expected in pairs:
        drawn = metric.over_draws(truths, scores)
        for rows in draws_of_groups([str(i) for i in range(5)], rng, 200):
            truth, score = (np.concatenate([part[i] for i in rows]) for part in (truths, scores))
            if truth.all() or not truth.any():
                assert math.isnan(drawn(rows))
            else:
                assert drawn(rows) == expected(truth, score)


def test_a_missing_class_has_no_value_and_scores_must_be_finite() -> None:
    for truth in ([True, True], [False, False], []):
        assert math.isnan(auc(np.array(truth, bool), np.linspace(0, 1, len(truth))))
    with pytest.raises(DataError, match="1 of 2 scores are not finite"):
        auc(np.array([True, False]), np.array([np.nan, 0.5]))
