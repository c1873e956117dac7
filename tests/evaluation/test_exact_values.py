"""Every metric on models whose value is known without computing: right, inverted, constant, one class.

One positive of four, so that a formula that mixes up the classes gives another value.
"""

import math

import numpy as np
import pytest

from wsi_mil.contracts.labels import Target, TaskKind
from wsi_mil.evaluation.calibration import calibration
from wsi_mil.evaluation.delong import estimate_auc
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.measure import measure
from wsi_mil.evaluation.observations import (
    LabelledTiles,
    LesionObservations,
    Observations,
    PatchObservations,
    PixelObservations,
    SlideObservations,
)
from wsi_mil.evaluation.paired import paired_bootstrap
from wsi_mil.evaluation.pixel_metrics import PixelCounts
from wsi_mil.evaluation.predictions import PredictedSlides
from wsi_mil.evaluation.table import LEVELS, Level, MetricEntry, metrics_at

MIXED, POSITIVE, NEGATIVE = ([True, False, False, False], [True] * 4, [False] * 4)
# model -> truth and probability of four slides or tiles; a probability of at least 0.5 is a call
MODELS: dict[str, tuple[list[bool], list[float]]] = {
    "right": (MIXED, [1, 0, 0, 0]),
    "inverted": (MIXED, [0, 1, 1, 1]),
    "all called": (MIXED, [1, 1, 1, 1]),
    "none called": (MIXED, [0, 0, 0, 0]),
    "prevalence": (MIXED, [0.25] * 4),
    "one half": (MIXED, [0.5] * 4),
    "all positive, right": (POSITIVE, [1, 1, 1, 1]),
    "all positive, wrong": (POSITIVE, [0, 0, 0, 0]),
    "all negative, right": (NEGATIVE, [0, 0, 0, 0]),
    "all negative, wrong": (NEGATIVE, [1, 1, 1, 1]),
}
NAN = math.nan
# metrics of slides and tiles -> value for each of MODELS; tiles have no value where a class is missing
SLIDES: dict[str, list[float]] = {
    "auc": [1, 0, 0.5, 0.5, 0.5, 0.5, NAN, NAN, NAN, NAN],
    "average_precision": [1, 0.25, 0.25, 0.25, 0.25, 0.25, NAN, NAN, NAN, NAN],
    "accuracy": [1, 0, 0.25, 0.75, 0.75, 0.25, 1, 0, 1, 0],
    "balanced_accuracy": [1, 0, 0.5, 0.5, 0.5, 0.5, 1, 0, 1, 0],
    "f1": [1, 0, 0.4, 0, 0, 0.4, 1, 0, NAN, 0],
    "brier": [0, 1, 0.75, 0.25, 0.1875, 0.25, 0, 1, 0, 1],
}
TILES: dict[str, list[float]] = {
    "auc": SLIDES["auc"],
    "auprc": SLIDES["average_precision"],
    "f1": [1, 0, 0.4, 0, 0, 0.4, NAN, NAN, NAN, NAN],
}
# (called, hits, tumour) in µm² -> Dice
PIXELS = {(50, 50, 50): 1, (50, 0, 50): 0, (100, 25, 25): 0.4, (0, 0, 25): 0, (10, 0, 0): 0, (0, 0, 0): NAN}
HIT, MISSED, FALSE = Matches((), (0.9,), 1), Matches((), (0.0,), 1), Matches((0.9,), (), 0)
LESIONS: list[tuple[str, tuple[Matches, ...], float]] = [
    ("corrected", (HIT, HIT), 1),
    ("corrected", (MISSED, MISSED), 0),
    ("corrected", (HIT, MISSED), 0.5),
    ("corrected", (Matches((0.95,), (0.9,), 1),), 4 / 6),  # one false positive before it: from 1 per slide on
    ("corrected", (FALSE,), NAN),
    ("corrected", (Matches((), (), 0),), NAN),
    ("official", (Matches((), (0.9, 0.8), 2),), 0.5),  # the organisers' script drops the lowest threshold
]


def entry(level: Level, name: str) -> MetricEntry:
    return next(one for one in metrics_at(level, "detection") if one.name == name)


def observations(level: Level, model: str) -> Observations:
    truth, scores = (np.array(column) for column in MODELS[model])
    if level == "patch":
        return PatchObservations((LabelledTiles("s", "p", truth, scores.astype(float), scores >= 0.5),))
    return SlideObservations(tuple("abcd"), truth, scores.astype(float), scores >= 0.5)


CASES = [
    pytest.param(level, name, model, value, id=f"{level} {name}: {model}")
    for level, table in (("slide", SLIDES), ("patch", TILES))
    for name, row in table.items()
    for model, value in zip(MODELS, row, strict=True)
]


@pytest.mark.parametrize(("level", "name", "model", "value"), CASES)
def test_slides_and_tiles(
    level: Level, name: str, model: str, value: float, rng: np.random.Generator
) -> None:
    found = measure(entry(level, name), observations(level, model), rng, draws=20)
    assert found.value == pytest.approx(value, abs=1e-12, nan_ok=True)
    if math.isnan(value):
        assert found.reason.startswith("undefined: ")
        assert found.interval is None


@pytest.mark.parametrize(("counts", "value"), list(PIXELS.items()))
def test_pixels(counts: tuple[float, float, float], value: float, rng: np.random.Generator) -> None:
    called, hits, tumour = counts
    data = PixelObservations(("p",), (PixelCounts(np.array([called]), np.array([hits]), tumour),))
    found = measure(entry("pixel", "dice"), data, rng, 0).value
    assert found == pytest.approx(value, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(("mode", "matches", "value"), LESIONS)
def test_lesions(mode: str, matches: tuple[Matches, ...], value: float, rng: np.random.Generator) -> None:
    patients = tuple(map(str, range(len(matches))))
    data = LesionObservations(patients, matches, mode)  # type: ignore[arg-type]
    found = measure(entry("lesion", "score"), data, rng, 0).value
    assert found == pytest.approx(value, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("level", LEVELS)
def test_the_right_model_reaches_the_best_bound_of_every_metric(
    level: Level, rng: np.random.Generator
) -> None:
    """This holds for a metric that is added later, too."""
    data: dict[Level, Observations] = {
        "slide": observations("slide", "right"),
        "patch": observations("patch", "right"),
        "lesion": LesionObservations(("a", "b"), (HIT, HIT), "corrected"),
        "pixel": PixelObservations(("a",), (PixelCounts(np.array([5.0]), np.array([5.0]), 5.0),)),
    }
    for one in metrics_at(level, "detection"):
        best = one.bounds[0 if one.lower_is_better else 1]
        assert measure(one, data[level], rng, 0).value == best, one.name


# tasks other than detection: (task, reading, targets, predictions) and the value of each metric
PREDICTIONS: list[tuple[TaskKind, str, list[Target], list[float], dict[str, float]]] = [
    ("regression", "value", [1, 2, 6], [1, 2, 6], {"r2": 1, "pearson": 1, "spearman": 1, "mae": 0}),
    ("regression", "value", [1, 2, 3], [3, 2, 1], {"r2": -3, "pearson": -1, "spearman": -1, "mae": 4 / 3}),
    ("regression", "value", [1, 2, 6], [3, 3, 3], {"r2": 0, "pearson": NAN, "spearman": NAN, "mae": 2}),
    ("regression", "value", [2, 2, 2], [1, 2, 3], {"r2": NAN, "pearson": NAN, "mae": 2 / 3}),
    ("survival", "risk", [(1, 1), (2, 1), (3, 0)], [3, 2, 1], {"concordance": 1}),
    ("survival", "risk", [(1, 1), (2, 1), (3, 0)], [1, 2, 3], {"concordance": 0}),
    ("survival", "risk", [(1, 1), (2, 1), (3, 0)], [1, 1, 1], {"concordance": 0.5}),
    ("survival", "risk", [(1, 0), (2, 0), (3, 0)], [3, 2, 1], {"concordance": NAN}),
    ("ordinal", "probability", [0, 1, 2], [0, 1, 2], {"quadratic_kappa": 1, "class_distance": 0}),
    ("ordinal", "probability", [0, 0, 2, 2], [2, 2, 0, 0], {"quadratic_kappa": -1, "class_distance": 2}),
    ("ordinal", "probability", [0, 1, 2], [1, 1, 1], {"quadratic_kappa": 0, "class_distance": 2 / 3}),
    ("ordinal", "probability", [1, 1, 1], [1, 1, 1], {"quadratic_kappa": NAN, "class_accuracy": 1}),
    ("classification", "probability", [0, 1, 2, 2], [0, 1, 2, 2], {"class_accuracy": 1, "mean_recall": 1}),
    ("classification", "probability", [0, 1, 2, 2], [1, 2, 0, 0], {"class_accuracy": 0, "mean_recall": 0}),
    (
        "classification",
        "probability",
        [0, 1, 2, 2],
        [2, 2, 2, 2],
        {"class_accuracy": 0.5, "mean_recall": 1 / 3, "macro_auc": 0.5},
    ),
]


@pytest.mark.parametrize(("task", "reading", "targets", "predictions", "values"), PREDICTIONS)
def test_predictions(
    task: TaskKind,
    reading: str,
    targets: list[Target],
    predictions: list[float],
    values: dict[str, float],
    rng: np.random.Generator,
) -> None:
    patients = list(map(str, range(len(targets))))
    certain = (
        [[float(k == p) for k in range(3)] for p in predictions] if reading == "probability" else [()] * 3
    )
    data = PredictedSlides.of(patients, targets, predictions, certain, reading)
    for name, value in values.items():
        one = next(found for found in metrics_at("slide", task) if found.name == name)
        found = measure(one, data, rng, 0, task).value
        assert found == pytest.approx(value, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize(
    ("model", "error", "of_fraction"),
    [("right", 0, 0.1875), ("inverted", 1, 0.1875), ("prevalence", 0, 0.1875), ("all positive, right", 0, 0)],
)
def test_calibration(model: str, error: float, of_fraction: float) -> None:
    truth, scores = (np.array(column) for column in MODELS[model])
    found = calibration(truth, scores.astype(float))
    assert (found.expected_error, found.brier_of_fraction) == (error, of_fraction)


@pytest.mark.parametrize(("scores", "auc"), [([1, 1, 0, 0], 1), ([0, 0, 1, 1], 0), ([1, 1, 1, 1], 0.5)])
def test_delong_of_a_model_without_spread_has_no_width(scores: list[float], auc: float) -> None:
    found = estimate_auc(np.array([True, True, False, False]), np.array(scores, float))
    assert (found.auc, found.variance, found.interval) == (auc, 0, (auc, auc))


def test_a_model_does_not_differ_from_itself(rng: np.random.Generator) -> None:
    values = np.arange(8.0)
    found = paired_bootstrap(
        lambda r: float(values[r].mean()), lambda r: float(values[r].mean()), list("aabbccdd"), rng, 50
    )
    assert (found.difference, found.low, found.high, found.p_two_sided) == (0, 0, 0, 1)
