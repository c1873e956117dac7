"""Area under the ROC curve."""

import math

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import DETECTION, MetricEntry


def auc(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the area under the ROC curve, ties counting one half; NaN if a class is missing.

    >>> auc(np.array([False, True, True]), np.array([0.1, 0.1, 0.9]))
    0.75
    """
    from sklearn.metrics import roc_auc_score

    return math.nan if truth.all() or not truth.any() else float(roc_auc_score(truth, scores))


METRICS = (
    MetricEntry("auc", "slide", "slide AUC", auc, ("truth", "scores"), both_classes=True, position=10),
    MetricEntry(
        "auc",
        "patch",
        "patch AUC",
        auc,
        ("truth", "scores"),
        tasks=DETECTION,
        both_classes=True,
        most_draws=200,  # every draw sorts the tiles of all slides
        position=110,
    ),
)
