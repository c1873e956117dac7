"""Intervals: the percentile bootstrap over patients, exact bounds of extreme values, and Student's t interval
over trainings."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.metric import Interval

Statistic = Callable[[NDArray[np.intp]], float]
"""A function from numbers of rows, in which a row may occur several times, to a value; NaN if undefined."""
BOOTSTRAP = "percentile bootstrap"
EXACT = "one-sided exact bound"


def bootstrap_interval(
    statistic: Statistic,
    groups: Sequence[str],
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Return the percentile interval of `statistic(rows)` over draws of the cohort with replacement.

    groups: the patient of each row; patients are drawn whole. Draws on which the statistic is NaN, because a
    class is missing, are left out. If that leaves fewer than half of the draws, or `draws` is 0, both limits
    are NaN. `Interval.draws` is the number of draws that were used.

    >>> values = np.arange(100.0)
    >>> found = bootstrap_interval(lambda rows: values[rows].mean(), [str(i) for i in range(100)],
    ...                            np.random.default_rng(0), draws=200)
    >>> found.low < 49.5 < found.high
    True
    """
    found = [statistic(rows) for rows in draws_of_groups(groups, rng, draws)]
    defined = np.array([number for number in found if not math.isnan(number)])
    if draws == 0 or len(defined) < draws / 2:
        return Interval(math.nan, math.nan, BOOTSTRAP, level, len(defined))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), BOOTSTRAP, level, len(defined))


def exact_bound(value: float, trials: int, level: float = 0.95) -> Interval:
    """Return the one-sided bound of a probability whose observed value is exactly 1 (or 0).

    trials: how many independent trials all succeeded (failed). The bound is (1 - level)^(1 / trials), the
    lower limit of Clopper & Pearson, Biometrika 1934: with a smaller probability, so many successes without a
    failure have a probability below 1 - level. Both limits are NaN without trials.

    >>> round(exact_bound(1.0, 18).low, 3)
    0.847
    """
    if value not in (0.0, 1.0):
        raise ValueError(f"the exact bound is for a value of 0 or 1, got {value}")
    if trials < 1:
        return Interval(math.nan, math.nan, EXACT, level, one_sided=True)
    bound = (1 - level) ** (1 / trials)
    low, high = (bound, 1.0) if value == 1 else (0.0, 1 - bound)
    return Interval(low, high, EXACT, level, one_sided=True)


def independent_pairs(truth: NDArray[np.bool_], groups: Sequence[str]) -> int:
    """Return how many pairs of a positive and a negative slide there are of which no two share a patient.

    They are the independent trials of an AUC: where it is 1, the positive slide of each of these pairs has
    the higher score, and for every pair the probability of that is the AUC. The bound that follows holds for
    any distribution of scores; it is reached if the smaller class is now and then on the wrong side of all.

    >>> independent_pairs(np.array([True, True, True, False, False]), ["a", "a", "b", "c", "d"])
    2
    """
    names = np.asarray(groups)
    positive, negative = set(names[truth].tolist()), set(names[~truth].tolist())
    return min(len(positive), len(negative), len(positive | negative) // 2)


def draws_of_groups(
    groups: Sequence[str], rng: np.random.Generator, draws: int
) -> Iterator[NDArray[np.intp]]:
    """Yield, `draws` times, the rows of n groups drawn with replacement from all n groups."""
    if not len(groups):
        return
    unique, inverse = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(inverse == g) for g in range(len(unique))]
    for _ in range(draws):
        chosen = rng.integers(0, len(unique), len(unique))
        yield np.concatenate([members[g] for g in chosen])


@dataclass(frozen=True)
class Spread:
    """The mean, standard deviation (n - 1) and Student's t interval of `count` values."""

    mean: float
    std: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float], level: float = 0.95) -> Spread:
    """Return mean, standard deviation and t interval of `values`; NaN among them are left out.

    The interval assumes independent values. The folds of one cohort share training slides, so for their
    values it is too narrow.

    >>> spread([0.8, 0.9, 1.0]).mean
    0.9
    """
    from scipy.special import stdtrit  # scipy.stats, whose t.ppf calls it, takes seconds to import

    defined = np.array([value for value in values if not math.isnan(value)])
    count = len(defined)
    mean = float(defined.mean()) if count else math.nan
    if count < 2:
        return Spread(mean, math.nan, math.nan, math.nan, count)
    std = float(defined.std(ddof=1))
    half = float(stdtrit(count - 1, (1 + level) / 2)) * std / math.sqrt(count)
    return Spread(mean, std, mean - half, mean + half, count)
