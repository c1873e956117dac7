"""How often the larger risk has the earlier event."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import MetricEntry
from wsi_mil.tasks.measures import concordance_index


def concordance(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return Harrell's concordance index of risks (n,) for targets (n, 2), times and events; NaN if
    undefined.

    >>> concordance(np.array([[1.0, 1], [2.0, 1], [3.0, 0]]), np.array([0.9, 0.1, 0.5]))
    0.6666666666666666
    """
    return concordance_index(targets[:, 0].tolist(), targets[:, 1].tolist(), scores.tolist())


METRICS = (
    MetricEntry(
        "concordance",
        "slide",
        "concordance index",
        concordance,
        ("targets", "scores"),
        tasks=frozenset({"survival"}),
        score_kinds=frozenset({"risk"}),
        short="C-index",
        position=10,
    ),
)
