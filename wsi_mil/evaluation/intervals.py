"""Intervals: the percentile bootstrap over patients, and Student's t interval over trainings."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.metric import Interval

Statistic = Callable[[NDArray[np.intp]], float]
"""A function from numbers of rows, in which a row may occur several times, to a value; NaN if undefined."""
BOOTSTRAP = "percentile bootstrap"


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
    from scipy.stats import t

    defined = np.array([value for value in values if not math.isnan(value)])
    count = len(defined)
    mean = float(defined.mean()) if count else math.nan
    if count < 2:
        return Spread(mean, math.nan, math.nan, math.nan, count)
    std = float(defined.std(ddof=1))
    half = float(t.ppf((1 + level) / 2, count - 1)) * std / math.sqrt(count)
    return Spread(mean, std, mean - half, mean + half, count)
