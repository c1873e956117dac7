"""Area under the precision-recall curve."""

import math

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import DETECTION, MetricEntry


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the sum over distinct thresholds of the step in recall times the precision; NaN if a class is
    missing.

    >>> round(average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.1])), 3)
    0.833
    """
    from sklearn.metrics import average_precision_score

    return math.nan if truth.all() or not truth.any() else float(average_precision_score(truth, scores))


METRICS = (
    MetricEntry(
        "average_precision",
        "slide",
        "average precision",
        average_precision,
        ("truth", "scores"),
        both_classes=True,
        shown_in=("report", "terminal"),
        short="AP",
        position=20,
    ),
    MetricEntry(
        "auprc",
        "patch",
        "patch AUPRC",
        average_precision,
        ("truth", "scores"),
        tasks=DETECTION,
        both_classes=True,
        most_draws=200,
        position=120,
    ),
)
