"""Fractions of slides whose most probable class is right."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import MetricEntry


def class_accuracy(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return the fraction of slides whose predicted class index (n,) is the target (n,).

    >>> class_accuracy(np.array([0.0, 2.0]), np.array([0.0, 1.0]))
    0.5
    """
    return float((targets == scores).mean())


def mean_recall(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return the recall of each class, averaged over the classes that occur in the targets.

    >>> mean_recall(np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.0, 0.0, 0.0, 0.0]))
    0.5
    """
    from sklearn.metrics import recall_score

    return float(recall_score(targets, scores, labels=np.unique(targets), average="macro", zero_division=0))


METRICS = tuple(
    MetricEntry(
        name,
        "slide",
        title,
        function,
        ("targets", "scores"),
        tasks=frozenset({"classification", "ordinal"}),
        score_kinds=frozenset({"probability"}),
        short=short,
        position=position,
    )
    for name, title, short, function, position in (
        ("class_accuracy", "accuracy", "", class_accuracy, 20),
        ("mean_recall", "balanced accuracy", "balanced acc.", mean_recall, 30),
    )
)
