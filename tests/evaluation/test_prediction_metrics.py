"""Metrics of predictions against SciPy, scikit-learn and lifelines; their intervals and records."""

import math
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError
from wsi_mil.evaluation.measure import all_undefined, compare_all, measure_all
from wsi_mil.evaluation.predictions import PredictedSlides, observe_predictions
from wsi_mil.randomness import named_generator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lifelines.utils import concordance_index

RNG = named_generator(0, "test of prediction metrics")
N = 31
PATIENTS = [f"p{i // 2}" for i in range(N)]
VALUES = RNG.normal(size=N)
GUESSES = VALUES + RNG.normal(size=N)
CLASSES = RNG.integers(0, 3, N)
P = RNG.dirichlet([1, 1, 1], N)
TIMES, EVENTS = RNG.integers(1, 12, N).astype(float), (RNG.random(N) < 0.6).astype(float)
RISKS = np.round(RNG.normal(size=N), 1)

DATA: dict[TaskKind, PredictedSlides] = {
    "regression": PredictedSlides.of(PATIENTS, VALUES.tolist(), GUESSES.tolist(), [()] * N, "value"),
    "survival": PredictedSlides.of(
        PATIENTS, list(zip(TIMES, EVENTS, strict=True)), RISKS.tolist(), [()] * N, "risk"
    ),
    "ordinal": PredictedSlides.of(
        PATIENTS, CLASSES.tolist(), P.argmax(1).tolist(), P.tolist(), "probability"
    ),
    "classification": PredictedSlides.of(
        PATIENTS, CLASSES.tolist(), P.argmax(1).tolist(), P.tolist(), "probability"
    ),
}
FOUND = P.argmax(1)
EXPECTED: dict[TaskKind, dict[str, float]] = {
    "regression": {
        "r2": r2_score(VALUES, GUESSES),
        "pearson": pearsonr(VALUES, GUESSES).statistic,
        "spearman": spearmanr(VALUES, GUESSES).statistic,
        "mae": mean_absolute_error(VALUES, GUESSES),
    },
    "survival": {"concordance": concordance_index(TIMES, -RISKS, EVENTS)},
    "ordinal": {
        "quadratic_kappa": cohen_kappa_score(CLASSES, FOUND, weights="quadratic"),
        "class_accuracy": accuracy_score(CLASSES, FOUND),
        "mean_recall": balanced_accuracy_score(CLASSES, FOUND),
        "class_distance": float(np.abs(CLASSES - FOUND).mean()),
    },
    "classification": {
        "macro_auc": roc_auc_score(CLASSES, P, multi_class="ovr", average="macro"),
        "class_accuracy": accuracy_score(CLASSES, FOUND),
        "mean_recall": balanced_accuracy_score(CLASSES, FOUND),
    },
}


@pytest.mark.parametrize("task", EXPECTED)
def test_every_metric_of_a_task_equals_that_of_another_library(task: TaskKind) -> None:
    found = measure_all(DATA[task], 3, "m", draws=100, task=task)
    assert {name: metric.value for name, metric in found.items()} == pytest.approx(EXPECTED[task])
    for name, metric in found.items():
        assert metric.interval is not None
        assert metric.interval.low < metric.value < metric.interval.high, name
        assert metric.n == N


def test_intervals_are_of_patients_and_of_one_named_generator() -> None:
    """The percentiles of R² over draws of whole patients, drawn here from the generator of that name."""
    found = measure_all(DATA["regression"], 3, "m", draws=100, task="regression")["r2"]
    rng, names = named_generator(3, "m", "slide", "r2"), np.unique(PATIENTS)
    rows_of = {name: np.flatnonzero(np.asarray(PATIENTS) == name) for name in names}
    values = []
    for _ in range(100):
        drawn = np.concatenate([rows_of[names[i]] for i in rng.integers(0, len(names), len(names))])
        values.append(r2_score(VALUES[drawn], GUESSES[drawn]))
    assert found.interval is not None
    low, high = np.percentile(values, [2.5, 97.5])
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=0.15)
    again = measure_all(DATA["regression"], 3, "m", draws=100, task="regression")["r2"]
    assert again == found


@pytest.mark.parametrize(
    ("task", "metric", "targets", "reason"),
    [
        ("regression", "r2", np.zeros(4), "1 different labels of 4 slides"),
        ("regression", "pearson", np.zeros(4), "1 different labels of 4 slides"),
        ("ordinal", "quadratic_kappa", np.zeros(4), "1 different labels of 4 slides"),
        ("survival", "concordance", np.array([[1.0, 0], [2, 0], [3, 0], [4, 0]]), "0 events of 4 slides"),
    ],
)
def test_what_cannot_be_known_has_a_reason(
    task: TaskKind, metric: str, targets: NDArray[np.float64], reason: str
) -> None:
    reading = {"regression": "value", "survival": "risk", "ordinal": "probability"}[task]
    data = PredictedSlides(("a", "b", "c", "d"), targets, np.zeros(4), None, reading)
    found = measure_all(data, 0, "m", 10, task)[metric]
    assert math.isnan(found.value)
    assert found.interval is None
    assert reason in found.reason


def test_metrics_of_another_task_do_not_apply() -> None:
    assert set(all_undefined("lesion", "no lesions", "regression")) == {"score"}
    no_classes = measure_all(DATA["regression"], 0, "m", 0, "classification")
    assert "needs 'class_probabilities'" in no_classes["macro_auc"].reason
    value_as_risk = measure_all(DATA["regression"], 0, "m", 0, "survival")["concordance"]
    assert "does not apply to scores that are a value" in value_as_risk.reason


def test_two_models_of_a_regression_are_compared_on_the_same_slides() -> None:
    data = DATA["regression"]
    worse = PredictedSlides.of(PATIENTS, VALUES.tolist(), RNG.normal(size=N).tolist(), [()] * N, "value")
    found = compare_all(data, worse, 0, ("a", "b"), 100, "regression")["mae"]
    assert found.first == pytest.approx(EXPECTED["regression"]["mae"])
    assert found.difference == pytest.approx(found.first - found.second)
    assert found.low < found.difference < found.high


def row(slide_id: str, prediction: float | None, target: tuple[float, ...]) -> SlideScoreRow:
    probability = math.nan if prediction is not None else 0.5
    return SlideScoreRow(
        slide_id, "p", 0, "test", None, probability, probability, False, 3, "t", "f", "m", prediction, target
    )


def test_slides_without_label_or_prediction_are_refused() -> None:
    found = observe_predictions([row("a", 2.5, (3.0, 1.0)), row("b", 0.5, (1.0, 0.0))], "risk")
    assert found.targets.tolist() == [[3.0, 1.0], [1.0, 0.0]]
    assert found.predictions.tolist() == [2.5, 0.5]
    for wrong in (row("c", 1.0, ()), row("c", None, (1.0,))):
        with pytest.raises(DataError, match="slide 'c' has no label or no prediction"):
            observe_predictions([wrong], "value")
