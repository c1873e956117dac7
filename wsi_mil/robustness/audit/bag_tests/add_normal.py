"""Bag test: ten times as many normal instances are added to positive bags."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wsi_mil.robustness.audit.bag_tests.base import BACKGROUND, Instances, InvarianceTest, join, normal

ADDED_TIMES = 10


class AddNormal(InvarianceTest):
    order = 50
    description = (
        "fraction of positive bags that are still called positive after ten times as many normal instances "
        "were added"
    )

    def change(self, instances: Instances, rng: Generator) -> NDArray[np.float64]:
        count, dim = instances[0].shape
        rows, _ = join([instances, normal(rng, ADDED_TIMES * count, dim, 0, 1, BACKGROUND)])
        return rows

    def fraction(self, positive: NDArray[np.bool_], specificity: float) -> float:
        return float(positive.mean())


TEST = AddNormal()
