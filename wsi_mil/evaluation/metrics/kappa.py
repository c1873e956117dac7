"""Agreement of ordered classes beyond chance."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import MetricEntry
from wsi_mil.tasks.measures import quadratic_kappa


def kappa(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return Cohen's kappa with quadratic weights of class indices (n,); NaN if there is one class only.

    >>> kappa(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    1.0
    """
    return quadratic_kappa(targets.astype(int).tolist(), scores.astype(int).tolist())


METRICS = (
    MetricEntry(
        "quadratic_kappa",
        "slide",
        "quadratic weighted kappa",
        kappa,
        ("targets", "scores"),
        tasks=frozenset({"ordinal"}),
        score_kinds=frozenset({"probability"}),
        bounds=(-1.0, 1.0),
        short="kappa",
        position=10,
    ),
)
