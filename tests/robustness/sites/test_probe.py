"""The linear probe on features with and without a site signal."""

import math

import numpy as np
import pytest
from scipy.stats import beta, norm

from tests.robustness.sites.cohorts import cohort
from wsi_mil.robustness.sites.probe import probe_centres


def test_a_strong_signal_is_found_and_its_absence_too() -> None:
    rng = np.random.default_rng(0)
    strong, none = cohort(0, 0, 6, 1), cohort(0, 0, 0, 1)
    found = probe_centres("slides", strong.features, strong.centres, strong.patients, rng)
    assert found.accuracy > 0.98
    assert found.names_the_centre
    found = probe_centres("slides", none.features, none.centres, none.patients, rng)
    assert found.low < 0.5 < found.high
    assert not found.names_the_centre


def test_an_accuracy_of_one_has_the_exact_bound_of_equally_many_patients() -> None:
    """Centres of 60 and 30 patients: 30 of each, all named rightly."""
    c = cohort(0, 0, 30, 0, 120, 2)
    kept = [row for row, name in enumerate(c.centres) if name == "c0" or row % 4 == 1]
    centres, patients = ([column[row] for row in kept] for column in (c.centres, c.patients))
    found = probe_centres("slides", c.features[kept], centres, patients, np.random.default_rng(0))
    assert (centres.count("c0"), centres.count("c1")) == (60, 30)
    assert (found.accuracy, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(beta.ppf(0.05, 60, 1))  # Clopper and Pearson
    assert found.names_the_centre


def test_the_accuracy_is_near_that_of_the_best_rule() -> None:
    """Two Gaussians at a distance of 2 sd: the best rule is right with probability Phi(1) = 0.841."""
    large = cohort(0, 0, 2, 0, 3000)
    found = probe_centres(
        "slides", large.features, large.centres, large.patients, np.random.default_rng(0), 200
    )
    assert found.accuracy == pytest.approx(norm.cdf(1), abs=0.02)
    assert found.low < norm.cdf(1) < found.high


def test_three_centres_of_unequal_size_have_a_chance_of_one_third() -> None:
    rng = np.random.default_rng(0)
    centres = ["a"] * 80 + ["b"] * 15 + ["c"] * 10
    patients = [str(i) for i in range(105)]
    found = probe_centres("slides", rng.normal(size=(105, 4)), centres, patients, rng)
    assert found.chance == pytest.approx(1 / 3)
    assert found.low < 1 / 3 < found.high


def test_a_patient_is_never_on_both_sides() -> None:
    """Features name the patient exactly and the centre not at all: shared patients would give 1."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(30), 10)
    features = rng.normal(size=(30, 20))[person] * 10
    centres = [f"c{n % 2}" for n in person]
    found = probe_centres("tiles", features, centres, [str(n) for n in person], rng)
    assert found.patients == 30
    assert not found.names_the_centre


def test_centres_of_one_patient_are_left_out_by_name() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 3))
    centres = ["a"] * 5 + ["b"] * 5 + ["lonely"] * 2
    patients = [str(i) for i in range(10)] + ["x", "x"]
    found = probe_centres("slides", features, centres, patients, rng)
    assert (found.centres, found.left_out, found.n) == (("a", "b"), ("lonely",), 10)
    found = probe_centres("slides", features[5:], centres[5:], patients[5:], rng)
    assert found.reason == "1 of 2 centres have 2 patients or more"
    assert math.isnan(found.accuracy)
    assert not found.names_the_centre
