"""Area under the ROC curve."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.intervals import independent_pairs
from wsi_mil.evaluation.rank_metrics import RankMetric, area_under_roc
from wsi_mil.evaluation.table import DETECTION, MetricEntry

ROC_AREA = RankMetric(area_under_roc)


def auc(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the area under the ROC curve, ties counting one half; NaN if a class is missing.

    >>> auc(np.array([False, True, True]), np.array([0.1, 0.1, 0.9]))
    0.75
    """
    return ROC_AREA(truth, scores)


METRICS = (
    MetricEntry(
        "auc",
        "slide",
        "slide AUC",
        ROC_AREA,
        ("truth", "scores"),
        both_classes=True,
        trials=independent_pairs,
        position=10,
    ),
    MetricEntry(
        "auc",
        "patch",
        "patch AUC",
        ROC_AREA,
        ("truth", "scores"),
        tasks=DETECTION,
        both_classes=True,
        position=110,
    ),
)
