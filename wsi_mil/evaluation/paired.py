"""Two models on the same slides: the difference of any metric, and how far it would move on another draw of the cohort."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsi_mil.evaluation.intervals import Statistic, draws_of_groups


@dataclass(frozen=True)
class PairedDifference:
    """`first` minus `second` with its percentile interval and two-sided bootstrap p.

    p: twice the smaller fraction of draws on either side of 0, at least 2 / (draws + 1).
    draws: the number of draws on which both were defined.
    reason: why the difference is undefined; "" where it is defined.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_two_sided: float
    draws: int
    reason: str = ""

    @classmethod
    def undefined(cls, reason: str, first: float = math.nan, second: float = math.nan) -> "PairedDifference":
        """Return the difference that cannot be known, with the values of the models where they are known."""
        return cls(first, second, math.nan, math.nan, math.nan, math.nan, 0, reason)


def paired_bootstrap(
    first: Statistic,
    second: Statistic,
    groups: Sequence[str],
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> PairedDifference:
    """Return the difference of two statistics of rows, both taken on the same draws of whole `groups` (one per row).

    Draws on which either is NaN are left out. If they are more than half, or `draws` is 0, there is no interval and
    no p.

    >>> rows = np.arange(20.0)
    >>> found = paired_bootstrap(lambda r: rows[r].mean() + 1, lambda r: rows[r].mean(), list("abcdefghijklmnopqrst"),
    ...                          np.random.default_rng(0), draws=100)
    >>> [round(value, 9) for value in (found.difference, found.low, found.high)]
    [1.0, 1.0, 1.0]
    """
    everything = np.arange(len(groups))
    a, b = float(first(everything)), float(second(everything))
    if math.isnan(a - b):
        return PairedDifference.undefined("undefined on these slides", a, b)
    drawn = np.array([first(rows) - second(rows) for rows in draws_of_groups(groups, rng, draws)])
    defined = drawn[~np.isnan(drawn)]
    if draws == 0 or len(defined) < draws / 2:
        return PairedDifference(a, b, a - b, math.nan, math.nan, math.nan, len(defined))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    below, above = int((defined <= 0).sum()), int((defined >= 0).sum())
    p = min(2 * (min(below, above) + 1) / (len(defined) + 1), 1.0)
    return PairedDifference(a, b, a - b, float(low), float(high), p, len(defined))
