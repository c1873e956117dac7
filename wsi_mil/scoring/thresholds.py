"""A threshold of slide probabilities, with the rule and the slides that chose it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wsi_mil.contracts.record import Record, require
from wsi_mil.errors import DataError


@dataclass(frozen=True)
class Threshold(Record):
    """A slide is positive from the probability `value` on.

    rule: how it was chosen. part: the part of the split on which. part_digest: of the slides of that part.
    """

    value: float
    rule: str
    part: str
    part_digest: str

    def __post_init__(self) -> None:
        require(math.isfinite(self.value), "threshold", "value", "finite", self.value)

    def refuse_if_chosen_on(self, part_digest: str) -> None:
        """Raise DataError if the slides about to be scored are those that the threshold was chosen on."""
        if part_digest == self.part_digest:
            raise DataError(
                f"the threshold {self.value:.4g} was chosen on the very slides that are to be scored "
                f"(part {self.part!r}): score another part of the split"
            )


def choose_threshold(probabilities: Sequence[float], labels: Sequence[int]) -> float:
    """Return the probability that separates the classes best; 0.5 if a class is missing.

    That is the one with the largest sensitivity + specificity (Youden, Index for rating diagnostic tests,
    1950). It lies halfway between the two scores around it; of equal ones, the one in the widest gap is
    taken.

    >>> choose_threshold([0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1])
    0.45
    """
    scores, truth = np.asarray(probabilities, np.float64), np.asarray(labels) > 0
    if truth.all() or not truth.any():
        return 0.5
    values = np.unique(scores)
    edges = np.concatenate([[0.0], values, [1.0]])
    best = (-math.inf, -math.inf, 0.5)
    for low, high in pairwise(edges):
        middle = (low + high) / 2
        positive = scores >= middle
        youden = positive[truth].mean() + (~positive[~truth]).mean()
        best = max(best, (round(float(youden), 12), round(float(high - low), 12), float(middle)))
    return round(best[2], 12)
