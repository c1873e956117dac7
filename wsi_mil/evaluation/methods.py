"""Two methods compared over their trainings: the corrected resampled t test, and Holm's correction.

A method is compared with another over folds, repeats and seeds, paired by training. A test on the slides of
one training says which of two fitted models is better, not which method is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CORRECTED = "corrected resampled t"
OVER_SEEDS = "paired t over seeds"


@dataclass(frozen=True)
class MethodDifference:
    """`first` minus `second`: means over trainings, their difference with its 95 % interval and p.

    test: "corrected resampled t" over splits, or "paired t over seeds" if there is one split only: the
    difference then holds for this test part. splits, trainings: how many were paired. p_holm: p after Holm's
    correction over the family that was compared; NaN until `adjusted` is called.
    reason: why there is no interval and p; "" if there are.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    t: float
    p_two_sided: float
    splits: int
    trainings: int
    test: str
    reason: str = ""
    p_holm: float = math.nan


def compare_trainings(
    first: Sequence[float],
    second: Sequence[float],
    splits: Sequence[str],
    test_to_train: float,
    level: float = 0.95,
) -> MethodDifference:
    """Return the comparison of two methods by a metric of their trainings, paired in the same order.

    splits: of each training, what names its training and test part; trainings of one split differ in their
    seed, and are averaged first. test_to_train: number of test slides / number of training slides.
    Trainings of which a value is NaN are left out.

    With J splits the variance of the mean difference is (1 / J + test_to_train) s^2, of J - 1 degrees of
    freedom (Nadeau & Bengio, Machine Learning 2003; folds and repeats as in Bouckaert & Frank, PAKDD 2004).
    The plain s^2 / J would take overlapping training parts as independent.

    >>> found = compare_trainings([0.9, 0.8, 0.9], [0.8, 0.8, 0.7], ["a", "b", "c"], 0.5)
    >>> round(found.difference, 3), round(found.t, 3)
    (0.1, 1.095)
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    known = np.isfinite(a) & np.isfinite(b)
    names = np.asarray(splits)[known]
    parts = [np.flatnonzero(known)[names == name] for name in dict.fromkeys(names.tolist())]
    count, trainings = len(parts), int(known.sum())
    if not trainings:
        return _undefined(math.nan, math.nan, 0, 0, "no training of both has this metric")
    means = [float(np.mean([values[rows].mean() for rows in parts])) for values in (a, b)]
    if trainings < 2:
        why = "one training of each: give split.kind=kfold, split.repeats or split.seeds"
        return _undefined(means[0], means[1], count, trainings, why)
    over_seeds = count == 1
    values = (a - b)[parts[0]] if over_seeds else np.array([(a - b)[rows].mean() for rows in parts])
    error = math.sqrt((1 / len(values) + (0 if over_seeds else test_to_train)) * float(values.var(ddof=1)))
    if error < 1e-12:  # rounding of equal differences
        return _undefined(means[0], means[1], count, trainings, "the difference is the same in all trainings")
    return _tested(means, values, error, count, trainings, OVER_SEEDS if over_seeds else CORRECTED, level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values after Holm's correction (Scandinavian Journal of Statistics 1979); NaN stays, and is
    not counted.

    The i-th smallest of m is multiplied by m - i + 1; none becomes smaller than the one before it, or
    exceeds 1. The probability of any false rejection is then at most the level, whatever the dependence.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = sorted((p, at) for at, p in enumerate(p_values) if not math.isnan(p))
    adjusted, least = [math.nan] * len(p_values), 0.0
    for rank, (p, at) in enumerate(known):
        least = max(least, min(p * (len(known) - rank), 1.0))
        adjusted[at] = least
    return adjusted


def _tested(
    means: Sequence[float],
    values: NDArray[np.float64],
    error: float,
    splits: int,
    trainings: int,
    test: str,
    level: float,
) -> MethodDifference:
    from scipy.stats import t

    difference, df = float(values.mean()), len(values) - 1
    half = float(t.ppf((1 + level) / 2, df)) * error
    ratio = difference / error
    p = 2 * float(t.sf(abs(ratio), df))
    return MethodDifference(
        means[0],
        means[1],
        difference,
        difference - half,
        difference + half,
        ratio,
        p,
        splits,
        trainings,
        test,
    )


def _undefined(first: float, second: float, splits: int, trainings: int, why: str) -> MethodDifference:
    nan = math.nan
    return MethodDifference(first, second, first - second, nan, nan, nan, nan, splits, trainings, "", why)
