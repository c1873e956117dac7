"""Fractions of slides that are called right."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import MetricEntry


def patients(truth: NDArray[np.bool_], groups: Sequence[str]) -> int:
    """Return how many patients there are: the independent trials of an accuracy of 0 or 1.

    >>> patients(np.array([True, True, False]), ["a", "a", "b"])
    2
    """
    return len(set(groups))


def accuracy(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    """Return the fraction of slides whose call is right.

    >>> accuracy(np.array([True, True, False, False]), np.array([True, True, True, False]))
    0.75
    """
    return float((truth == called).mean())


def balanced_accuracy(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    """Return the mean of sensitivity and specificity; if a class is missing, the one of the two that is
    defined.

    >>> balanced_accuracy(np.array([True, False, False, False]), np.array([True, True, False, False]))
    0.8333333333333333
    """
    recalls = [(called[truth == one] == one).mean() for one in (False, True) if (truth == one).any()]
    return float(np.mean(recalls))


METRICS = (
    MetricEntry(
        "accuracy",
        "slide",
        "accuracy",
        accuracy,
        ("truth", "called"),
        trials=patients,
        shown_in=("report", "terminal"),
        position=30,
    ),
    MetricEntry(
        "balanced_accuracy",
        "slide",
        "balanced accuracy",
        balanced_accuracy,
        ("truth", "called"),
        shown_in=("trainings",),
        position=35,
    ),
)
