"""The area under the ROC curve with its standard error, and a test of two models on the same slides.

The method is that of DeLong et al., Biometrics 1988. It is computed from midranks, as in Sun & Xu, IEEE
Signal Processing Letters 2014: n log n steps instead of one per pair of slides. Where patients have several
slides, the variance is that of Obuchowski, Biometrics 1997, which takes patients, not slides, as independent;
with one slide a patient it is DeLong's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.metric import Interval
from wsi_mil.errors import DataError
from wsi_mil.evaluation.intervals import exact_bound, independent_pairs

DELONG, OBUCHOWSKI = "DeLong", "Obuchowski"


@dataclass(frozen=True)
class AucEstimate:
    """The AUC with its variance and two 95 % intervals that assume a normal distribution.

    method: "DeLong", or "Obuchowski" where patients have several slides; `n_patients` is how many patients
    there are.
    interval: of the AUC itself; it may reach beyond [0, 1]. logit_interval: of the AUC's logit, transformed
    back; NaN for an AUC of 0 or 1. hanley_mcneil_se: the standard error of Hanley & McNeil, Radiology 1982,
    which needs only the AUC and the numbers of slides, and takes slides as independent.
    stated: the interval to quote: on the logit scale; for an AUC of 0 or 1 a one-sided exact bound; NaN
    limits if the variance is 0 otherwise (all scores equal).
    """

    auc: float
    variance: float
    interval: tuple[float, float]
    logit_interval: tuple[float, float]
    hanley_mcneil_se: float
    n_positive: int
    n_negative: int
    n_patients: int
    method: str
    stated: Interval

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
    """The AUCs of two models on the same slides, and the test of their difference, first minus second.

    method, n_patients: as of `AucEstimate`. covariance: of the two AUCs. variance: of the difference.
    z: the difference divided by its standard error. z and p are NaN if the variance is 0, for example for a
    model compared with itself. df: degrees of freedom of the t distribution that gives p and interval; inf:
    the normal distribution.
    """

    first: float
    second: float
    difference: float
    covariance: float
    variance: float
    z: float
    p_two_sided: float
    interval: tuple[float, float]
    n_patients: int
    method: str
    df: float


@dataclass(frozen=True)
class _Parts:
    """The parts of each slide in an AUC: of positives (m,) and negatives (n,), and whose slides they are."""

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    positive_patient: NDArray[np.intp]
    negative_patient: NDArray[np.intp]

    @property
    def auc(self) -> float:
        return float(self.positive.mean())

    @property
    def patients(self) -> int:
        return len({*self.positive_patient.tolist(), *self.negative_patient.tolist()})

    @property
    def clustered(self) -> bool:
        """Whether a patient has several slides."""
        return self.patients < len(self.positive) + len(self.negative)

    @property
    def method(self) -> str:
        return OBUCHOWSKI if self.clustered else DELONG


def estimate_auc(
    truth: NDArray[np.bool_],
    scores: NDArray[np.floating],
    level: float = 0.95,
    patients: Sequence[str] | None = None,
) -> AucEstimate:
    """Return the AUC of scores (n,) for truth (n,), with standard errors and intervals at confidence `level`.

    A higher score means "more likely positive"; ties count one half. patients: of each slide; None: each
    slide is of another patient. Several slides a patient: limits are those of a t distribution.
    Raises DataError if fewer than two patients have slides of a class, because the variance is then
    undefined, and for scores that are not finite.

    >>> truth = np.array([True, True, True, False, False, False])
    >>> round(estimate_auc(truth, np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1])).auc, 4)
    0.8889
    """
    truth = np.asarray(truth, bool)
    groups = tuple(map(str, range(len(truth)))) if patients is None else patients
    parts = _parts(truth, scores, groups)
    auc, (variance, df) = parts.auc, _variance(parts, parts)
    half = _quantile(level, df) * math.sqrt(variance)
    logit = (math.nan, math.nan)
    if 0 < auc < 1:
        from scipy.special import expit

        centre, width = math.log(auc / (1 - auc)), half / (auc * (1 - auc))
        logit = (float(expit(centre - width)), float(expit(centre + width)))
    if auc in (0.0, 1.0):
        stated = exact_bound(auc, independent_pairs(truth, groups), level)
    else:
        limits = logit if variance > 0 else (math.nan, math.nan)
        stated = Interval(*limits, f"{parts.method} on the logit scale", level)
    m, n = len(parts.positive), len(parts.negative)
    older, plain = _hanley_mcneil(auc, m, n), (auc - half, auc + half)
    return AucEstimate(auc, variance, plain, logit, older, m, n, parts.patients, parts.method, stated)


def compare_aucs(
    truth: NDArray[np.bool_],
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    level: float = 0.95,
    patients: Sequence[str] | None = None,
) -> AucComparison:
    """Return the paired test of two models' scores (n,) of the same slides: DeLong's, or with several slides
    a patient that of Obuchowski's variance.

    Both models are taken as they are: the test says whether they differ on other slides of such patients, not
    whether the methods that trained them would differ in another training.
    Raises DataError as `estimate_auc` does.

    >>> truth = np.array([True, True, False, False])
    >>> first, second = np.array([0.9, 0.8, 0.7, 0.1]), np.array([0.9, 0.2, 0.7, 0.1])
    >>> compare_aucs(truth, first, second).difference
    0.25
    """
    from scipy.stats import t

    truth = np.asarray(truth, bool)
    groups = tuple(map(str, range(len(truth)))) if patients is None else patients
    one, other = _parts(truth, first, groups), _parts(truth, second, groups)
    difference = one.auc - other.auc
    covariance, _ = _variance(one, other)
    between = _Parts(
        one.positive - other.positive,
        one.negative - other.negative,
        one.positive_patient,
        one.negative_patient,
    )
    variance, df = _variance(between, between)
    z = difference / math.sqrt(variance) if variance > 0 else math.nan
    p = math.erfc(abs(z) / math.sqrt(2)) if math.isinf(df) else 2 * float(t.sf(abs(z), df))
    half = _quantile(level, df) * math.sqrt(variance)
    limits = (difference - half, difference + half)
    return AucComparison(
        one.auc, other.auc, difference, covariance, variance, z, p, limits, one.patients, one.method, df
    )


def _parts(truth: NDArray[np.bool_], scores: NDArray[np.floating], patients: Sequence[str]) -> _Parts:
    """Return the fraction of negatives below each positive, and of positives above each negative."""
    from scipy.stats import rankdata

    scores = np.asarray(scores, np.float64)
    m, n = int(truth.sum()), int((~truth).sum())
    if min(m, n) < 2:
        raise DataError(
            f"the variance of an AUC needs two slides of each class, got {m} positive and {n} negative"
        )
    if not np.isfinite(scores).all():
        raise DataError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    patient = np.unique(np.asarray(patients), return_inverse=True)[1]
    with_class = [len(np.unique(patient[truth == kind])) for kind in (True, False)]
    if min(with_class) < 2:
        raise DataError(
            "the variance of an AUC needs two patients with slides of each class, got "
            f"{with_class[0]} with positive and {with_class[1]} with negative slides"
        )
    ranks = rankdata(scores)
    positive = (ranks[truth] - rankdata(scores[truth])) / n
    negative = 1 - (ranks[~truth] - rankdata(scores[~truth])) / m
    return _Parts(positive, negative, patient[truth], patient[~truth])


def _variance(one: _Parts, other: _Parts) -> tuple[float, float]:
    """Return Obuchowski's covariance of two AUCs of the same slides, and its degrees of freedom.

    With a_i and b_i the sums over patient i of the parts, less their mean, of positives and of negatives, it
    is c1 sum(a_i a'_i) / m^2 + c0 sum(b_i b'_i) / n^2 + c sum(a_i b'_i + a'_i b_i) / (m n), where c1 = I1 /
    (I1 - 1) for I1 patients with positive slides, c0 and c in the same way for those with negative slides and
    all. With one slide a patient the last term is 0, and the rest is DeLong's formula. Degrees of freedom
    are Satterthwaite's, as of Brunner & Munzel, Biometrical Journal 2000, from the first two terms; inf with
    one slide a patient, where DeLong's normal distribution is used.
    """
    number = 1 + int(max(one.positive_patient.max(), one.negative_patient.max()))
    a, b = _sums(one, number)
    a2, b2 = _sums(other, number)
    m, n = len(one.positive), len(one.negative)
    with_positive, with_negative = (
        len(np.unique(patients)) for patients in (one.positive_patient, one.negative_patient)
    )
    of_positive = _unbiased(with_positive) * float(a @ a2) / m**2
    of_negative = _unbiased(with_negative) * float(b @ b2) / n**2
    if not one.clustered:
        return of_positive + of_negative, math.inf
    both = _unbiased(one.patients) * float(a @ b2 + a2 @ b) / (m * n)
    spread = of_positive**2 / (with_positive - 1) + of_negative**2 / (with_negative - 1)
    df = (of_positive + of_negative) ** 2 / spread if spread > 0 else math.inf
    return max(
        of_positive + of_negative + both, 0.0
    ) if one is other else of_positive + of_negative + both, df


def _sums(parts: _Parts, patients: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums over each patient of the parts of positives and of negatives, less their mean."""
    positive, negative = np.zeros(patients), np.zeros(patients)
    np.add.at(positive, parts.positive_patient, parts.positive - parts.positive.mean())
    np.add.at(negative, parts.negative_patient, parts.negative - parts.negative.mean())
    return positive, negative


def _unbiased(count: int) -> float:
    return count / (count - 1)


def _quantile(level: float, df: float) -> float:
    """Return the upper quantile of a two-sided interval: of the normal distribution, or of t with `df`."""
    if math.isinf(df):
        return NormalDist().inv_cdf((1 + level) / 2)
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, df))


def _hanley_mcneil(auc: float, m: int, n: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    square = auc * (1 - auc) + (m - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)
    return math.sqrt(max(square, 0.0) / (m * n))
