"""Calibration: does a probability of 0.8 mean that 8 of 10 such slides are positive?"""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.results import Calibration, CalibrationBin

BINS = 5


def calibration(truth: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> Calibration:
    """Return the calibration of slide probabilities (n,) over five equal bins of [0, 1].

    A probability of 1 belongs to the last bin. The fraction of positive slides in each bin has Wilson's score
    interval (Wilson, J. Am. Stat. Assoc. 1927).

    >>> found = calibration(np.array([True, False, False]), np.array([0.9, 0.3, 0.1]))
    >>> [(one.start, one.slides, one.fraction_positive) for one in found.bins]
    [(0.0, 1, 0.0), (0.2, 1, 0.0), (0.8, 1, 1.0)]
    """
    fraction = float(truth.mean())
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins = tuple(
        _bin(number, truth[place == number], probabilities[place == number])
        for number in range(BINS)
        if (place == number).any()
    )
    error = sum(one.slides * abs(one.mean_probability - one.fraction_positive) for one in bins) / len(truth)
    return Calibration(fraction * (1 - fraction), error, bins)


def _bin(number: int, truth: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> CalibrationBin:
    from scipy.stats import binomtest

    positive, count = int(truth.sum()), len(truth)
    wilson = binomtest(positive, count).proportion_ci(method="wilson")
    return CalibrationBin(
        start=number / BINS,
        stop=(number + 1) / BINS,
        slides=count,
        mean_probability=float(probabilities.mean()),
        fraction_positive=positive / count,
        low=float(wilson.low),
        high=float(wilson.high),
    )
