"""DeLong, Hanley-McNeil and average precision against exact arithmetic, on the reference cases."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsi_mil.errors import DataError
from wsi_mil.evaluation.delong import AucEstimate, compare_aucs, estimate_auc
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.evaluation.metrics.average_precision import average_precision


def cases(reference_folder: Path) -> list[tuple[str, dict[str, Any], np.ndarray, dict[str, np.ndarray]]]:
    folder = reference_folder / "froc" / "slide_statistics"
    if not (folder / "expected.json").exists():
        pytest.skip("no slide_statistics in WSI_MIL_TEST_REFERENCE")
    found = []
    for name, expected in json.loads((folder / "expected.json").read_text())["cases"].items():
        with (folder / f"{name}.csv").open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        truth = np.array([row["label"] == "1" for row in rows])
        columns = [key for key in rows[0] if key.startswith("score")]
        found.append(
            (name, expected, truth, {key: np.array([float(row[key]) for row in rows]) for key in columns})
        )
    assert found
    return found


def test_auc_variances_and_intervals_equal_the_reference(reference_folder: Path) -> None:
    for name, expected, truth, scores in cases(reference_folder):
        for column, values in scores.items():
            want, found = expected[column], estimate_auc(truth, values)
            assert (found.n_positive, found.n_negative) == (want["n_pos"], want["n_neg"]), name
            numbers = {
                "auc": found.auc,
                "delong_variance": found.variance,
                "delong_se": found.se,
                "delong_ci95": found.interval,
                "delong_ci95_clipped": found.clipped_interval,
                "hanley_mcneil_se": found.hanley_mcneil_se,
                "average_precision": average_precision(truth, values),
            }
            for key, value in numbers.items():
                np.testing.assert_allclose(
                    value, want[key], rtol=0, atol=1e-9, err_msg=f"{name} {column} {key}"
                )
            assert auc(truth, values) == pytest.approx(want["auc"], abs=1e-9)
            if want.get("delong_logit_ci95"):
                np.testing.assert_allclose(found.logit_interval, want["delong_logit_ci95"], rtol=0, atol=1e-9)
            else:
                assert math.isnan(found.logit_interval[0])


def test_paired_delong_equals_the_reference(reference_folder: Path) -> None:
    paired = [case for case in cases(reference_folder) if case[1].get("paired_delong")]
    assert paired
    for name, expected, truth, scores in paired:
        first, second = scores.values()
        want, found = expected["paired_delong"], compare_aucs(truth, first, second)
        numbers = {
            "auc_a": found.first,
            "auc_b": found.second,
            "covariance": found.covariance,
            "variance_of_difference": found.variance,
            "z_a_minus_b": found.z,
            "p_two_sided": found.p_two_sided,
        }
        for key, value in numbers.items():
            assert value == pytest.approx(want[key], abs=1e-9), (name, key)


def test_a_model_against_itself_has_no_p_value() -> None:
    truth = np.arange(10) % 2 == 0
    scores = np.random.default_rng(0).random(10)
    same = compare_aucs(truth, scores, scores)
    assert same.difference == 0
    assert math.isnan(same.p_two_sided)


def test_the_normal_interval_covers() -> None:
    """In 400 draws of two normal distributions, 91 to 98 % of the intervals hold the AUC Phi(1 / sqrt 2)."""
    rng = np.random.default_rng(3)
    truth = np.arange(120) < 60
    true = 0.7602499389065233
    inside = 0
    for _ in range(400):
        found: AucEstimate = estimate_auc(truth, rng.normal(size=120) + truth)
        inside += found.interval[0] < true < found.interval[1]
    assert 0.91 < inside / 400 < 0.98


def test_one_positive_slide_is_refused() -> None:
    with pytest.raises(DataError, match="two slides of each class, got 1 positive and 2 negative"):
        estimate_auc(np.array([True, False, False]), np.array([0.1, 0.2, 0.3]))
    with pytest.raises(DataError, match="1 of 4 scores are not finite"):
        estimate_auc(np.array([True, True, False, False]), np.array([0.1, np.nan, 0.2, 0.3]))
