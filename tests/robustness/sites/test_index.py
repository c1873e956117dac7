"""The robustness index against a count neighbour by neighbour, and features whose index is known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from tests.robustness.sites.cohorts import Cohort, cohort
from wsi_mil.robustness.sites.index import RobustnessIndex, robustness_index


def index_of(c: Cohort, draws: int = 50, seed: int = 0) -> RobustnessIndex:
    return robustness_index(
        "slides",
        c.features,
        c.positive.astype(int).tolist(),
        c.centres,
        c.patients,
        np.random.default_rng(seed),
        draws,
    )


def by_counting(
    features: NDArray[np.float64], classes: list[int], centres: list[str], patients: list[str]
) -> tuple[float, int, float]:
    """The index of two classes and two centres with equally many of each kind, k and its accuracy."""
    unit = [row / math.sqrt(float(row @ row)) for row in features]
    order = []
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if patients[j] != patients[i]]
        order.append(sorted(others, key=lambda j: float(((unit[i] - unit[j]) ** 2).sum())))
    best = (-1.0, 0)
    for k in (1, 3, 5, 7, 9, 11, 21, 31, 41, 51):
        if k <= min(map(len, order)):
            called = [int(sum(classes[j] for j in near[:k]) * 2 > k) for near in order]
            accuracy = balanced_accuracy_score(classes, called)
            if accuracy > best[0] + 1e-12:
                best = (accuracy, k)
    so = os = 0
    for i, near in enumerate(order):
        for j in near[: best[1]]:
            so += classes[i] == classes[j] and centres[i] != centres[j]
            os += classes[i] != classes[j] and centres[i] == centres[j]
    return so / (so + os), best[1], best[0]


@pytest.mark.parametrize("seed", range(4))
def test_the_index_is_the_count_of_neighbours(seed: int) -> None:
    """Twelve slides of each kind; every patient has two of them, which are no neighbours of each other."""
    rng = np.random.default_rng(seed)
    classes, centres = np.tile([0, 0, 1, 1], 12).tolist(), np.tile(["a", "b"], 24).tolist()
    patients = [f"p{i % 4}_{i // 8}" for i in range(48)]
    features = rng.normal(size=(48, 5)) + np.outer(classes, [1, 0, 0, 0, 0])
    features[:, 1] += np.array([c == "a" for c in centres]) * 1.5
    found = robustness_index("slides", features, classes, centres, patients, rng, 20)
    value, k, accuracy = by_counting(features, classes, centres, patients)
    assert (found.value, found.k, found.accuracy) == (pytest.approx(value), k, pytest.approx(accuracy))
    assert (found.pairs, found.n) == (1, 48)


@pytest.mark.parametrize(
    ("seed", "value", "k"),
    [
        (0, 0.5039370078740157, 3),
        (1, 0.6666666666666666, 1),
        (2, 0.5423045930701047, 31),
        (3, 0.49960845732184805, 31),
    ],
)
def test_the_index_is_that_of_another_implementation(seed: int, value: float, k: int) -> None:
    """Values of croma 1.0.1 (PyPI) for RI, paired_2x2: 80 samples, two of each patient."""
    rng = np.random.default_rng(seed)
    classes, centres = np.tile([0, 0, 1, 1], 20), np.tile(["a", "b"], 40)
    patients = [f"p{i // 8}_{i % 4}" for i in range(80)]
    features = rng.normal(size=(80, 6))
    features[:, 0] += classes * 1.2
    features[:, 1] += (centres == "a") * 1.5
    found = robustness_index("slides", features, classes.tolist(), centres.tolist(), patients, rng, 10)
    assert (found.value, found.k) == (pytest.approx(value), k)


def test_site_biology_and_noise_have_the_indices_that_they_must_have() -> None:
    only_site = index_of(cohort(0, 0, 8, 0))
    assert only_site.value < 0.1
    only_biology = index_of(cohort(0, 0, 0, 8))
    assert only_biology.value > 0.9
    noise = index_of(cohort(0, 0, 0, 0, 400))
    assert noise.low < 0.5 < noise.high


def test_several_centres_are_taken_in_pairs_with_equal_numbers() -> None:
    """Noise has an index of one half also with four centres and unequal classes, where a plain count of all
    neighbours would give (4 - 1) / (4 - 1 + 1) = 0.75."""
    four = cohort(3, 0, 0, 0, 600, 4)
    found = index_of(four)
    assert found.pairs == 6
    assert found.value == pytest.approx(0.5, abs=0.04)


def test_a_full_tie_has_no_index_and_says_why() -> None:
    found = index_of(cohort(0, 1, 2, 2))
    assert math.isnan(found.value)
    assert found.reason == "no two centres have 2 patients of each of the same two classes"
