"""Whether a slide probability means what it says."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.results import Calibration, CalibrationBin

BINS = 5


def calibration(truth: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> Calibration:
    """Return the calibration of slides (n,) over five equal bins of [0, 1]; a probability of 1 is in the last bin.

    The interval of each bin's fraction is Wilson's score interval (Wilson 1927).

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
