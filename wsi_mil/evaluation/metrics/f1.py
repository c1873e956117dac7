"""The harmonic mean of precision and recall."""

import math

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import DETECTION, MetricEntry


def f1(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    """Return 2 TP / (2 TP + FP + FN), which is also the Dice coefficient; NaN if nothing is positive and none
    is called.

    >>> f1(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    positive_or_called = int(truth.sum()) + int(called.sum())  # 2 TP + FP + FN
    return 2 * int((truth & called).sum()) / positive_or_called if positive_or_called else math.nan


METRICS = (
    MetricEntry("f1", "slide", "F1", f1, ("truth", "called"), shown_in=("report", "terminal"), position=40),
    MetricEntry(
        "f1",
        "patch",
        "patch F1",
        f1,
        ("truth", "called"),
        tasks=DETECTION,
        both_classes=True,
        shown_in=(),
        position=130,
        within_slide="dice",
    ),
)
