"""Slide level: AUC, average precision, accuracy and F1 at a threshold that was chosen elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.intervals import bootstrap_interval


def auc(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the area under the ROC curve, ties counting one half; NaN if a class is missing.

    >>> auc(np.array([False, True, True]), np.array([0.1, 0.1, 0.9]))
    0.75
    """
    from sklearn.metrics import roc_auc_score

    return math.nan if truth.all() or not truth.any() else float(roc_auc_score(truth, scores))


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the sum over distinct thresholds of the recall step times the precision; NaN if a class is missing."""
    from sklearn.metrics import average_precision_score

    return math.nan if truth.all() or not truth.any() else float(average_precision_score(truth, scores))


def confusion(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> dict[str, int]:
    return {
        "tp": int((truth & predicted).sum()),
        "fp": int((~truth & predicted).sum()),
        "fn": int((truth & ~predicted).sum()),
        "tn": int((~truth & ~predicted).sum()),
    }


def accuracy(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    return float((truth == predicted).mean())


def f1(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Return 2 TP / (2 TP + FP + FN); NaN if there is no positive, true or predicted."""
    counts = confusion(truth, predicted)
    denominator = 2 * counts["tp"] + counts["fp"] + counts["fn"]
    return 2 * counts["tp"] / denominator if denominator else math.nan


def slide_metrics(
    labels: Sequence[int],
    probabilities: Sequence[float],
    predicted: Sequence[bool],
    groups: Sequence[str],
    rng: np.random.Generator,
    draws: int = 1000,
) -> dict[str, Any]:
    """Return auc, average_precision, accuracy, f1 (with 95 % intervals over `groups`) and the confusion counts.

    `predicted` comes from thresholds chosen on other slides. Undefined metrics are NaN; `reasons` says why.
    """
    truth, scores, positive = (
        np.asarray(labels) > 0,
        np.asarray(probabilities, np.float64),
        np.asarray(predicted, bool),
    )
    statistics = {
        "auc": lambda rows: auc(truth[rows], scores[rows]),
        "average_precision": lambda rows: average_precision(truth[rows], scores[rows]),
        "accuracy": lambda rows: accuracy(truth[rows], positive[rows]),
        "f1": lambda rows: f1(truth[rows], positive[rows]),
    }
    result: dict[str, Any] = {
        "n": len(truth),
        "n_positive": int(truth.sum()),
        "confusion": confusion(truth, positive),
    }
    intervals, reasons = {}, {}
    for name, statistic in statistics.items():
        interval = bootstrap_interval(statistic, groups, rng, draws)
        result[name] = interval.value
        intervals[name] = asdict(interval)
        if math.isnan(interval.value):
            reasons[name] = f"undefined: {int(truth.sum())} positive of {len(truth)} slides"
    return {**result, "intervals": intervals, "reasons": reasons}
