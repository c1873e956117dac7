"""Slide level: metrics with intervals, calibration, and the AUC with DeLong's variance."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.contracts.metric import Metric
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError
from wsi_mil.evaluation.calibration import calibration
from wsi_mil.evaluation.delong import estimate_auc
from wsi_mil.evaluation.measure import measure_all
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.evaluation.observations import SlideObservations
from wsi_mil.evaluation.results import Confusion, FoldSpread, SlideResult


def observe_slides(rows: Sequence[SlideScoreRow]) -> SlideObservations:
    """Return the labelled slides of slides.parquet as columns. Raises DataError for a slide without label."""
    return SlideObservations(
        tuple(row.patient for row in rows),
        np.array([row.positive for row in rows], np.bool_),
        np.array([row.probability for row in rows], np.float64),
        np.array([row.predicted for row in rows], np.bool_),
    )


def slide_result(
    data: SlideObservations,
    folds: Sequence[int],
    thresholds: Sequence[float],
    *,
    seed: int,
    model: str,
    draws: int = 1000,
    task: TaskKind = "detection",
) -> SlideResult:
    """Return the results of a model at slide level.

    folds, thresholds: for each slide, the number of the model that scored it and that model's threshold.
    Metrics are over all slides together; with several folds, `SlideResult.folds` also holds the AUC of each.
    """
    try:
        delong, why_not = estimate_auc(data.truth, data.scores, patients=data.patients), ""
    except DataError as error:
        delong, why_not = None, str(error)
    fold_of = np.asarray(folds)
    per_fold = [auc(data.truth[fold_of == fold], data.scores[fold_of == fold]) for fold in sorted(set(folds))]
    return SlideResult(
        metrics=measure_all(data, seed, model, draws, task),
        n=data.n,
        n_positive=int(data.truth.sum()),
        confusion=confusion(data.truth, data.called),
        calibration=calibration(data.truth, data.scores),
        thresholds=tuple(sorted(set(zip(folds, thresholds, strict=True)))),
        delong=delong,
        delong_reason=why_not,
        folds=fold_spread(per_fold) if len(per_fold) > 1 else None,
    )


def slide_metrics(
    truth: NDArray[np.bool_],
    scores: NDArray[np.floating],
    called: NDArray[np.bool_],
    patients: Sequence[str] | None = None,
    *,
    seed: int = 0,
    model: str = "model",
    draws: int = 1000,
    task: TaskKind = "detection",
) -> dict[str, Metric]:
    """Return every slide metric by name, with 95 % bootstrap intervals over patients.

    truth, scores, called (n,): whether a slide is positive, its probability, and whether the model calls it
    positive at a threshold that was chosen on other slides. patients: one name per slide; None if each slide
    is of another patient. draws: number of bootstrap draws; 0 gives no intervals.

    >>> truth, scores = np.array([True, True, False]), np.array([0.9, 0.4, 0.1])
    >>> found = slide_metrics(truth, scores, scores >= 0.5, draws=0)
    >>> found["auc"].value, found["balanced_accuracy"].value
    (1.0, 0.75)
    """
    groups = tuple(patients) if patients is not None else tuple(map(str, range(len(truth))))
    data = SlideObservations(
        groups, np.asarray(truth, np.bool_), np.asarray(scores, np.float64), np.asarray(called, np.bool_)
    )
    return measure_all(data, seed, model, draws, task)


def confusion(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> Confusion:
    """Return the counts of right and wrong calls (n,).

    >>> confusion(np.array([True, True, False]), np.array([True, False, False]))
    Confusion(tp=1, fp=0, fn=1, tn=1)
    """
    return Confusion(
        tp=int((truth & called).sum()),
        fp=int((~truth & called).sum()),
        fn=int((truth & ~called).sum()),
        tn=int((~truth & ~called).sum()),
    )


def fold_spread(values: Sequence[float]) -> FoldSpread:
    """Return the values with the mean and the standard deviation (n - 1) of the defined ones.

    >>> fold_spread([0.8, float("nan"), 0.9]).mean
    0.8500000000000001
    """
    defined = [value for value in values if not math.isnan(value)]
    return FoldSpread(
        tuple(values),
        float(np.mean(defined)) if defined else math.nan,
        float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan,
    )
