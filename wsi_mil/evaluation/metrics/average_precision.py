"""Area under the precision-recall curve."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.rank_metrics import RankMetric, area_under_precision
from wsi_mil.evaluation.table import DETECTION, MetricEntry

PRECISION_AREA = RankMetric(area_under_precision)


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the sum over distinct thresholds of the step in recall times the precision; NaN if a class is
    missing.

    >>> round(average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.1])), 3)
    0.833
    """
    return PRECISION_AREA(truth, scores)


METRICS = (
    MetricEntry(
        "average_precision",
        "slide",
        "average precision",
        PRECISION_AREA,
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
        PRECISION_AREA,
        ("truth", "scores"),
        tasks=DETECTION,
        both_classes=True,
        position=120,
    ),
)
