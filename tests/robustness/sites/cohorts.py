"""Generated cohorts whose tie of label and centre, and whose site signal in the features, are known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cohort:
    """One slide for each of n patients."""

    features: NDArray[np.float64]
    centres: list[str]
    positive: NDArray[np.bool_]
    patients: list[str]


def cohort(seed: int, tie: float, site: float, biology: float, count: int = 120, centres: int = 2) -> Cohort:
    """Return a cohort. tie: P(positive) is (1 + tie) / 2 in the first half of the centres and (1 - tie) / 2
    in the others. site, biology: by how many standard deviations centre and label shift a feature each.
    """
    rng = np.random.default_rng(seed)
    number = np.arange(count) % centres
    chance = np.where(number < centres / 2, 1 + tie, 1 - tie) / 2
    positive = rng.random(count) < chance
    features = rng.normal(size=(count, 8))
    features[:, 0] += site * number
    features[:, 1] += biology * positive
    return Cohort(features, [f"c{n}" for n in number], positive, [f"p{i}" for i in range(count)])
