"""Whether a slide probability means what it says."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.intervals import bootstrap_interval

BINS = 5


def brier(truth: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> float:
    """Return the mean squared difference of probability and truth (Brier 1950): 0 is perfect.

    >>> round(brier(np.array([True, False]), np.array([0.9, 0.2])), 3)
    0.025
    """
    return float(np.mean((probabilities - truth) ** 2))


def calibration(
    truth: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    groups: Sequence[str],
    rng: np.random.Generator,
    draws: int = 1000,
) -> dict[str, Any]:
    """Return `brier` with its interval, `brier_of_share` (of always saying the share of positives: what must be beaten),
    `expected_error` (mean distance of probability and share over the bins, weighted by slides) and the `bins`.

    Bins are five equal parts of [0, 1]; of each that holds slides: edges, slides, mean probability, share of positives
    and its 95 % Wilson interval.
    """
    interval = bootstrap_interval(lambda rows: brier(truth[rows], probabilities[rows]), groups, rng, draws)
    share = float(truth.mean())
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        inside = place == number
        if not inside.any():
            continue
        positive, count = int(truth[inside].sum()), int(inside.sum())
        low, high = wilson(positive, count)
        bins.append(
            {
                "from": number / BINS,
                "to": (number + 1) / BINS,
                "slides": count,
                "mean_probability": float(probabilities[inside].mean()),
                "share_positive": positive / count,
                "low": low,
                "high": high,
            }
        )
    error = sum(b["slides"] * abs(b["mean_probability"] - b["share_positive"]) for b in bins) / len(truth)
    return {
        "brier": interval.value,
        "interval": asdict(interval),
        "brier_of_share": share * (1 - share),
        "expected_error": error,
        "bins": bins,
    }


def wilson(successes: int, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927).

    >>> tuple(round(v, 3) for v in wilson(8, 10))
    (0.49, 0.943)
    """
    share = successes / count
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - half) / (1 + z * z / count), (centre + half) / (1 + z * z / count)
