"""The mean squared error of probabilities."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import MetricEntry


def brier(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the mean squared difference of probability and truth (Brier 1950): 0 is perfect.

    >>> round(brier(np.array([True, False]), np.array([0.9, 0.2])), 3)
    0.025
    """
    return float(np.mean((scores.astype(np.float64) - truth) ** 2))


METRICS = (
    MetricEntry(
        "brier",
        "slide",
        "Brier",
        brier,
        ("truth", "scores"),
        score_kinds=frozenset({"probability"}),
        lower_is_better=True,
        shown_in=("report",),
        position=310,
    ),
)
