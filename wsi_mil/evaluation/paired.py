"""Two models on the same slides: the difference of a metric, by paired bootstrap over patients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsi_mil.evaluation.intervals import Statistic, draws_of_groups


@dataclass(frozen=True)
class PairedDifference:
    """`first` minus `second`, with its 95 % percentile interval and a two-sided p.

    p_two_sided: twice the smaller of the fractions of draws at or below 0 and at or above 0, where the
    observed difference counts as one more draw. draws: number of draws on which both values were defined.
    reason: why the difference is undefined; "" if it is defined.
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
        """Return a difference that is undefined for `reason`, with the models' values if they are known."""
        return cls(first, second, math.nan, math.nan, math.nan, math.nan, 0, reason)


def paired_bootstrap(
    first: Statistic,
    second: Statistic,
    groups: Sequence[str],
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> PairedDifference:
    """Return the difference of two statistics, both computed on the same draws of rows.

    groups: the patient of each row; patients are drawn whole. Draws on which a statistic is NaN are left out.
    If that leaves fewer than half of the draws, or `draws` is 0, interval and p are NaN.

    >>> rows = np.arange(20.0)
    >>> found = paired_bootstrap(lambda r: rows[r].mean() + 1, lambda r: rows[r].mean(),
    ...                          list("abcdefghijklmnopqrst"), np.random.default_rng(0), draws=100)
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
