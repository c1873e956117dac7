"""Correlation of predicted and true values."""

import math

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import MetricEntry


def pearson(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of targets (n,) and predictions (n,); NaN if either is constant.

    >>> round(pearson(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 8.0])), 6)
    1.0
    """
    from scipy.stats import pearsonr

    return float(pearsonr(targets, scores).statistic) if _vary(targets, scores) else math.nan


def spearman(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation of targets (n,) and predictions (n,); NaN if either is constant.

    >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0])), 6)
    1.0
    """
    from scipy.stats import spearmanr

    return float(spearmanr(targets, scores).statistic) if _vary(targets, scores) else math.nan


def _vary(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> bool:
    return len(np.unique(targets)) > 1 and len(np.unique(scores)) > 1


METRICS = tuple(
    MetricEntry(
        name,
        "slide",
        title,
        function,
        ("targets", "scores"),
        tasks=frozenset({"regression"}),
        bounds=(-1.0, 1.0),
        position=position,
    )
    for name, title, function, position in (
        ("pearson", "Pearson", pearson, 20),
        ("spearman", "Spearman", spearman, 30),
    )
)
