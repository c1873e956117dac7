"""The mean distance of prediction and truth: in the unit of the label, or in classes."""

import math

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import MetricEntry


def absolute_error(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return the mean absolute difference of targets (n,) and predictions (n,).

    >>> absolute_error(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    1.5
    """
    return float(np.abs(targets - scores).mean())


METRICS = (
    MetricEntry(
        "mae",
        "slide",
        "mean absolute error",
        absolute_error,
        ("targets", "scores"),
        tasks=frozenset({"regression"}),
        lower_is_better=True,
        bounds=(0.0, math.inf),
        short="MAE",
        position=40,
    ),
    MetricEntry(
        "class_distance",
        "slide",
        "mean distance in classes",
        absolute_error,
        ("targets", "scores"),
        tasks=frozenset({"ordinal"}),
        lower_is_better=True,
        bounds=(0.0, math.inf),
        short="distance",
        position=40,
    ),
)
