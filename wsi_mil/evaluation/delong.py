"""The area under the ROC curve with its standard error, and a test of two models on the same slides.

The method is that of DeLong et al., Biometrics 1988. It is computed from midranks, as in Sun & Xu, IEEE
Signal Processing Letters 2014: n log n steps instead of one per pair of slides.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import DataError


@dataclass(frozen=True)
class AucEstimate:
    """The AUC with DeLong's variance and two 95 % intervals that assume a normal distribution.

    interval: of the AUC itself; it may reach beyond [0, 1]. logit_interval: of the AUC's logit, transformed
    back; NaN for an AUC of 0 or 1. hanley_mcneil_se: the standard error of Hanley & McNeil, Radiology 1982,
    which needs only the AUC and the numbers of slides.
    """

    auc: float
    variance: float
    interval: tuple[float, float]
    logit_interval: tuple[float, float]
    hanley_mcneil_se: float
    n_positive: int
    n_negative: int

    @property
    def se(self) -> float:
        """The standard error: the square root of the variance."""
        return math.sqrt(self.variance)

    @property
    def clipped_interval(self) -> tuple[float, float]:
        """`interval`, cut to [0, 1]."""
        return max(self.interval[0], 0.0), min(self.interval[1], 1.0)


@dataclass(frozen=True)
class AucComparison:
    """The AUCs of two models on the same slides, and DeLong's test of their difference, first minus second.

    covariance: of the two AUCs. variance: of the difference. z: the difference divided by its standard error.
    z and p are NaN if the variance is 0, for example for a model compared with itself.
    """

    first: float
    second: float
    difference: float
    covariance: float
    variance: float
    z: float
    p_two_sided: float
    interval: tuple[float, float]


def estimate_auc(truth: NDArray[np.bool_], scores: NDArray[np.floating], level: float = 0.95) -> AucEstimate:
    """Return the AUC of scores (n,) for truth (n,), with standard errors and intervals at confidence `level`.

    A higher score means "more likely positive"; ties count one half. Raises DataError if a class has fewer
    than two slides, because the variance is then undefined, and for scores that are not finite.

    >>> truth = np.array([True, True, True, False, False, False])
    >>> round(estimate_auc(truth, np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1])).auc, 4)
    0.8889
    """
    positive, negative = _components(truth, scores)
    auc = float(positive.mean())
    variance = _covariance(positive, positive) / len(positive) + _covariance(negative, negative) / len(
        negative
    )
    half = NormalDist().inv_cdf((1 + level) / 2)
    se = math.sqrt(variance)
    logit = (math.nan, math.nan)
    if 0 < auc < 1:
        from scipy.special import expit

        centre, width = math.log(auc / (1 - auc)), half * se / (auc * (1 - auc))
        logit = (float(expit(centre - width)), float(expit(centre + width)))
    older = _hanley_mcneil(auc, len(positive), len(negative))
    plain = (auc - half * se, auc + half * se)
    return AucEstimate(auc, variance, plain, logit, older, len(positive), len(negative))


def compare_aucs(
    truth: NDArray[np.bool_], first: NDArray[np.floating], second: NDArray[np.floating], level: float = 0.95
) -> AucComparison:
    """Return DeLong's paired test of two models' scores (n,) of the same slides.

    Raises DataError as `estimate_auc` does.

    >>> truth = np.array([True, True, False, False])
    >>> first, second = np.array([0.9, 0.8, 0.7, 0.1]), np.array([0.9, 0.2, 0.7, 0.1])
    >>> compare_aucs(truth, first, second).difference
    0.25
    """
    p1, n1 = _components(truth, first)
    p2, n2 = _components(truth, second)
    difference = float(p1.mean() - p2.mean())
    covariance = _covariance(p1, p2) / len(p1) + _covariance(n1, n2) / len(n1)
    variance = _covariance(p1 - p2, p1 - p2) / len(p1) + _covariance(n1 - n2, n1 - n2) / len(n1)
    z = difference / math.sqrt(variance) if variance > 0 else math.nan
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(variance)
    return AucComparison(
        float(p1.mean()),
        float(p2.mean()),
        difference,
        covariance,
        variance,
        z,
        math.erfc(abs(z) / math.sqrt(2)),
        (difference - half, difference + half),
    )


def _components(
    truth: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the fraction of negatives below each positive, and of positives above each negative."""
    from scipy.stats import rankdata

    truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
    m, n = int(truth.sum()), int((~truth).sum())
    if min(m, n) < 2:
        raise DataError(
            f"the variance of an AUC needs two slides of each class, got {m} positive and {n} negative"
        )
    if not np.isfinite(scores).all():
        raise DataError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    ranks = rankdata(scores)
    positive = (ranks[truth] - rankdata(scores[truth])) / n
    negative = 1 - (ranks[~truth] - rankdata(scores[~truth])) / m
    return positive, negative


def _covariance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float((a - a.mean()) @ (b - b.mean()) / (len(a) - 1))


def _hanley_mcneil(auc: float, m: int, n: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    square = auc * (1 - auc) + (m - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)
    return math.sqrt(max(square, 0.0) / (m * n))
