"""Metrics of the order of scores (AUC, average precision), fast enough for a bootstrap over many slides.

Both follow from the counts of false and true positives at each distinct score. A bootstrap draws slides again
and
again: `RankMetric.over_draws` sorts all scores once, and each draw only weighs them. The arithmetic is that
of scikit-learn, step by step, so that values are equal to the last digit; tests compare them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import DataError
from wsi_mil.evaluation.intervals import Statistic

Counts = NDArray[np.float64]


@final
@dataclass(frozen=True)
class RankMetric:
    """A metric that follows from the counts (K,) of false and true positives at or above each of K distinct
    scores.

    of_counts: its function. Counts rise; the last ones are the numbers of negatives and of positives, both
    above 0.
    """

    of_counts: Callable[[Counts, Counts], float]

    def __call__(self, truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
        """Return the metric of scores (n,); NaN if a class is missing. Raises DataError for a NaN score."""
        return self.over_draws([truth], [scores])(np.zeros(1, np.intp))

    def over_draws(
        self, truths: Sequence[NDArray[np.bool_]], scores: Sequence[NDArray[np.floating]]
    ) -> Statistic:
        """Return the function from the numbers of drawn slides, each as often as it was drawn, to the metric.

        truths, scores: one array per slide. The metric is over the scores of all drawn slides together; NaN
        if they lack a class.

        >>> metric = RankMetric(lambda false, true: float(true[-1]))  # the number of positives
        >>> drawn = metric.over_draws([np.array([True, True]), np.array([False])], [np.ones(2), np.zeros(1)])
        >>> drawn(np.array([0, 0, 1])), drawn(np.array([0]))
        (4.0, nan)
        """
        slides = len(truths)
        values = np.concatenate([np.asarray(part, np.float64) for part in scores]) if slides else np.empty(0)
        if not np.isfinite(values).all():
            raise DataError(f"{int((~np.isfinite(values)).sum())} of {len(values)} scores are not finite")
        order = np.argsort(-values)
        ends = np.flatnonzero(np.diff(values[order], append=-np.inf))  # the last of each run of equal scores
        slide = np.repeat(np.arange(slides), [len(part) for part in truths])[order]
        positive = np.concatenate(truths)[order] if slides else np.empty(0, np.bool_)

        def statistic(rows: NDArray[np.intp]) -> float:
            weights = np.bincount(rows, minlength=slides)[slide]
            called = np.cumsum(weights)[ends]
            true = np.cumsum(weights * positive)[ends]
            drawn = np.diff(called, prepend=0) > 0
            called, true = called[drawn], true[drawn]
            if not len(true) or true[-1] in (0, called[-1]):
                return math.nan
            return self.of_counts((called - true).astype(np.float64), true.astype(np.float64))

        return statistic


def area_under_roc(false: Counts, true: Counts) -> float:
    """Return the area under the ROC curve of counts, by the trapezoidal rule: ties count one half.

    >>> area_under_roc(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    0.75
    """
    # points between two others on a line change nothing but the rounding, and scikit-learn leaves them out
    corner = np.ones(len(false), np.bool_)
    corner[1:-1] = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
    x = np.append(0, false[corner]) / false[-1]
    y = np.append(0, true[corner]) / true[-1]
    return float(np.trapezoid(y, x))


def area_under_precision(false: Counts, true: Counts) -> float:
    """Return the sum over thresholds of the step in recall times the precision.

    >>> area_under_precision(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    1.0
    """
    precision, recall = true / (true + false), true / true[-1]
    # summed from the lowest threshold up, as scikit-learn does: the order decides the last digit
    return float(-np.sum(np.diff(np.append(recall[::-1], 0.0)) * precision[::-1]))
