"""Temperature against logistic regression, conformal p values against counts, and coverage by simulation."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from wsi_mil.errors import DataError
from wsi_mil.scoring.calibration import Calibration, decision, fit_calibration, fit_temperature


def probabilities(logits: np.ndarray) -> list[float]:
    return (1 / (1 + np.exp(-logits))).tolist()


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_inverse_slope_of_a_logistic_regression(scale: float) -> None:
    rng = np.random.default_rng(2)
    true = rng.normal(size=400) * 1.5
    truth = (rng.random(400) < 1 / (1 + np.exp(-true))).astype(int)
    logits = true * scale
    slope = LogisticRegression(C=1e9, fit_intercept=False).fit(logits[:, None], truth).coef_[0, 0]
    found = fit_temperature(probabilities(logits), truth.tolist())
    assert found == pytest.approx(1 / slope, rel=1e-3)
    assert found == pytest.approx(scale, rel=0.2)


def test_what_has_no_temperature_keeps_its_probabilities() -> None:
    separated = [0.9, 0.6, 0.2, 0.4]
    assert fit_temperature(separated, [1, 1, 0, 0]) == 1.0
    assert fit_temperature([0.9, 0.2], [1, 1]) == 1.0
    assert Calibration(1.0, (), "val", "").calibrated(0.37) == pytest.approx(0.37)


def test_p_values_are_fractions_of_slides_that_fit_no_better() -> None:
    found = fit_calibration([0.9, 0.8, 0.3, 0.1, 0.4], [1, 1, 1, 0, 0], "val", "d")
    assert found.nonconformity == (0.1, 0.1, 0.2, 0.4, 0.7)
    negative, positive = found.p_values(0.75)
    assert positive == pytest.approx((1 + 2) / 6)  # 0.25 against 0.4 and 0.7
    assert negative == pytest.approx(1 / 6)  # 0.75 against none
    assert found.p_values(0.6)[1] == pytest.approx((1 + 2) / 6)  # equal counts as no better


@pytest.mark.parametrize("error", [0.05, 0.1, 0.3])
def test_the_true_side_or_undecided_results_as_often_as_stated(error: float) -> None:
    """Split conformal: 3000 sets of 40 validation slides, one new slide each; the model is overconfident."""
    rng, runs, slides = np.random.default_rng(8), 3000, 40
    right = decided = 0
    for _ in range(runs):
        truth = rng.random(slides + 1) < 0.3
        p = probabilities(3 * (rng.normal(size=slides + 1) + 1.2 * truth - 0.4))
        found = fit_calibration(p[:-1], truth[:-1].tolist(), "val", "")
        result = decision(*found.p_values(p[-1]), error)
        right += result == "undecided" or (result == "positive") == truth[-1]
        decided += result != "undecided"
    assert right / runs > 1 - error - 2.6 * math.sqrt(error * (1 - error) / runs)
    assert decided / runs > 0.2  # and not by deciding nothing


def test_the_mean_of_p_values_of_folds_covers() -> None:
    """Five models of other noise, each with 30 validation slides of its own: above 1 - error, proved 1 - 2
    error."""
    rng, runs, error = np.random.default_rng(9), 1500, 0.1
    right = 0
    for _ in range(runs):
        truth = rng.random() < 0.5
        signal = rng.normal() + 1.2 * truth - 0.6
        p_values = []
        for _ in range(5):
            labels = rng.random(30) < 0.5
            p = probabilities(rng.normal(size=30) + 1.2 * labels - 0.6 + 0.5 * rng.normal(size=30))
            found = fit_calibration(p, labels.tolist(), "val", "")
            p_values.append(found.p_values(probabilities(np.array([signal + 0.5 * rng.normal()]))[0]))
        result = decision(*np.mean(p_values, 0).tolist(), error)
        right += result == "undecided" or (result == "positive") == truth
    assert right / runs > 1 - error - 2.6 * math.sqrt(error * (1 - error) / runs)


def test_few_validation_slides_decide_nothing() -> None:
    found = fit_calibration([0.99] * 4 + [0.01] * 4, [1] * 4 + [0] * 4, "val", "")
    assert found.p_values(0.999) == (pytest.approx(1 / 9), 1.0)
    assert decision(*found.p_values(0.999), 0.1) == "undecided"  # the smallest p value is 1 / 9
    assert decision(*found.p_values(0.999), 0.12) == "positive"
    assert decision(*found.p_values(0.5), 0.12) == "undecided"  # neither side fits


def test_damaged_records_are_refused() -> None:
    with pytest.raises(DataError, match="temperature"):
        Calibration(0.0, (), "val", "")
    with pytest.raises(DataError, match="nonconformity"):
        Calibration(1.0, (0.5, 0.2), "val", "")
