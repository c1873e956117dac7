"""Measures of predictions: functions on arrays."""

import math
from collections.abc import Sequence

import numpy as np


def concordance_index(times: Sequence[float], events: Sequence[float], risks: Sequence[float]) -> float:
    """Return Harrell's concordance index: the fraction of comparable pairs in which the earlier event has the
    larger risk. Equal risks count half. NaN without a comparable pair.

    A pair is comparable if the earlier of the two times is an event, or if the times are equal and exactly
    one is an event. Harrell, Califf, Pryor, Lee and Rosati, JAMA 1982.

    >>> concordance_index([1, 2, 3], [1, 1, 0], [0.9, 0.1, 0.5])
    0.6666666666666666
    """
    t, e, r = np.asarray(times, float), np.asarray(events, float) > 0, np.asarray(risks, float)
    earlier = (t[:, None] < t[None]) | ((t[:, None] == t[None]) & ~e[None])
    known = e[:, None] & earlier
    np.fill_diagonal(known, False)
    if not known.any():
        return math.nan
    above, equal = r[:, None] > r[None], r[:, None] == r[None]
    return float((above[known] + 0.5 * equal[known]).mean())


def r_squared(truth: Sequence[float], values: Sequence[float]) -> float:
    """Return the coefficient of determination: 1 is perfect, 0 the mean. NaN if all truths are equal.

    >>> r_squared([1, 2, 3], [1, 2, 3])
    1.0
    """
    from sklearn.metrics import r2_score

    return float(r2_score(truth, values)) if len(set(truth)) > 1 else math.nan


def mean_absolute_error(truth: Sequence[float], values: Sequence[float]) -> float:
    """Return the mean distance of prediction and truth.

    >>> mean_absolute_error([1, 2], [2, 4])
    1.5
    """
    return float(np.mean(np.abs(np.asarray(truth, float) - np.asarray(values, float))))


def quadratic_kappa(truth: Sequence[int], found: Sequence[int]) -> float:
    """Return Cohen's kappa with quadratic weights; NaN if there is one class only.

    >>> quadratic_kappa([0, 1, 2], [0, 1, 2])
    1.0
    """
    from sklearn.metrics import cohen_kappa_score

    if len(set(truth) | set(found)) < 2:
        return math.nan
    return float(cohen_kappa_score(truth, found, weights="quadratic"))
