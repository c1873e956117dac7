"""Bag test: the positive instances are removed from positive bags."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wsi_mil.robustness.audit.bag_tests.base import BACKGROUND, Instances, InvarianceTest


class RemovePositive(InvarianceTest):
    order = 60
    description = "fraction of positive bags that are called negative without their positive instances"

    def change(self, instances: Instances, rng: Generator) -> NDArray[np.float64]:
        rows, kinds = instances
        return np.asarray(rows[kinds == BACKGROUND])

    def fraction(self, positive: NDArray[np.bool_], specificity: float) -> float:
        """Relative to `specificity`: a changed bag is called negative at most as often as a negative bag."""
        return min(float((~positive).mean() / max(specificity, 1e-12)), 1.0)


TEST = RemovePositive()
