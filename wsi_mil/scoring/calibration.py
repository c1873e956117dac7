"""What validation slides say about probabilities: a temperature, and when a new slide stays undecided."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from wsi_mil.contracts.record import Record, require

SMALLEST, LARGEST = 0.05, 20.0
"""The limits within which a temperature is sought."""
ROUNDING = 1e-6
"""Probabilities of 0 and 1 count as so far from them."""
Decision = Literal["positive", "negative", "undecided"]


@dataclass(frozen=True)
class Calibration(Record):
    """How the probabilities of a detection model are to be read, from validation slides.

    temperature: the calibrated probability is sigmoid(logit(p) / temperature), Guo et al., ICML 2017; 1 where
    it could not be fitted. nonconformity: 1 - probability of the true side, of each validation slide,
    ascending. part, part_digest: of the slides that it was fitted on.
    """

    temperature: float
    nonconformity: tuple[float, ...]
    part: str
    part_digest: str

    def __post_init__(self) -> None:
        where, highest = "calibration", 1 + ROUNDING
        valid = math.isfinite(self.temperature) and self.temperature > 0
        require(valid, where, "temperature", "above 0", self.temperature)
        valid = list(self.nonconformity) == sorted(self.nonconformity)
        valid = valid and all(-ROUNDING <= value <= highest for value in self.nonconformity)
        require(valid, where, "nonconformity", "ascending, from 0 to 1", self.nonconformity)

    def calibrated(self, probability: float) -> float:
        """Return the probability at this temperature.

        >>> round(Calibration(2.0, (), "val", "").calibrated(0.9), 3)
        0.75
        """
        p = min(max(probability, ROUNDING), 1 - ROUNDING)
        return 1 / (1 + math.exp(-math.log(p / (1 - p)) / self.temperature))

    def p_values(self, probability: float) -> tuple[float, float]:
        """Return the conformal p values of a slide being negative, and being positive.

        A p value is (1 + number of validation slides that fit their side no better) / (1 + their number):
        Vovk et al., Algorithmic Learning in a Random World, 2005. If the slide and the validation slides are
        exchangeable, that of the true side is at most a with a probability of at most a.

        >>> Calibration(1.0, (0.1, 0.2, 0.7), "val", "").p_values(0.9)
        (0.25, 1.0)
        """
        negative, positive = (self._p_value(score) for score in (probability, 1 - probability))
        return negative, positive

    def _p_value(self, nonconformity: float) -> float:
        count = len(self.nonconformity)
        # 1 - 0.9 is not 0.1 to the last digit: what is equal but for rounding counts as no better
        below = bisect_left(self.nonconformity, nonconformity - ROUNDING)
        return (1 + count - below) / (1 + count)

    def as_json(self) -> dict[str, Any]:
        """Return the record in JSON's types."""
        return {**asdict(self), "nonconformity": list(self.nonconformity)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Calibration":
        """Return the record that `as_json` gave."""
        return cls(**{**found, "nonconformity": tuple(found["nonconformity"])})


def fit_calibration(
    probabilities: Sequence[float], truth: Sequence[int], part: str, part_digest: str
) -> Calibration:
    """Return the calibration of validation slides. truth: above 0 for positive slides."""
    scores = [1 - p if positive > 0 else p for p, positive in zip(probabilities, truth, strict=True)]
    nonconformity = tuple(sorted(min(max(round(score, 9), 0.0), 1.0) for score in scores))
    return Calibration(fit_temperature(probabilities, truth), nonconformity, part, part_digest)


def fit_temperature(probabilities: Sequence[float], truth: Sequence[int]) -> float:
    """Return the temperature of the smallest log loss of slides, from 0.05 to 20; 1 if there is none.

    There is none if a class is missing, or if all slides are on their side of 0.5: the log loss then falls
    without end as the temperature does, and says nothing of new slides.

    >>> round(fit_temperature([0.9, 0.9, 0.9, 0.1, 0.1, 0.1], [1, 1, 0, 0, 0, 1]), 2)
    3.17
    """
    from scipy.optimize import minimize_scalar

    sides = np.where(np.asarray(truth) > 0, 1.0, -1.0)
    p = np.clip(np.asarray(probabilities, np.float64), ROUNDING, 1 - ROUNDING)
    margins = sides * np.log(p / (1 - p))
    if len(set(sides.tolist())) < 2 or (margins >= 0).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -margins / math.exp(log_temperature)).mean())

    found = minimize_scalar(loss, bounds=(math.log(SMALLEST), math.log(LARGEST)), method="bounded")
    return round(math.exp(float(found.x)), 6)


def decision(p_negative: float, p_positive: float, error: float) -> Decision:
    """Return the side of which alone the p value is above `error`; "undecided" if it is both or neither.

    Of one model, "undecided" or the true side results for at least a fraction 1 - error of new slides that
    are exchangeable with the validation slides (marginal coverage: over all slides, not over each class). Of
    p values averaged over several models, at least 1 - 2 error is proved (Vovk & Wang, Biometrika 2020).

    >>> decision(0.04, 0.8, 0.1), decision(0.3, 0.8, 0.1)
    ('positive', 'undecided')
    """
    negative, positive = p_negative > error, p_positive > error
    if negative == positive:
        return "undecided"
    return "positive" if positive else "negative"
