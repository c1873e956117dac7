"""The coefficient of determination."""

import math

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import MetricEntry
from wsi_mil.tasks.measures import r_squared


def determination(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return R squared of predictions (n,): 1 is perfect, 0 as good as the mean; NaN if all targets are
    equal.

    >>> determination(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    1.0
    """
    return r_squared(targets.tolist(), scores.tolist())


METRICS = (
    MetricEntry(
        "r2",
        "slide",
        "R²",
        determination,
        ("targets", "scores"),
        tasks=frozenset({"regression"}),
        bounds=(-math.inf, 1.0),
        position=10,
    ),
)
