"""Bag test: the tissue of positive bags lies on one side in training, on the other in the test."""

import numpy as np
from numpy.random import Generator

from wsi_mil.robustness.audit.bag_tests.base import (
    BACKGROUND,
    BagSizes,
    Instances,
    ShortcutTest,
    concept,
    join,
    normal,
)


class Position(ShortcutTest):
    order = 90
    description = "the tissue of positive bags lies left in training and right in the test"
    held_against = False
    shuffled = False

    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        """The first two dimensions are x and y of an instance. Instances are sorted by place, as
        tiles are.
        """
        rows, kinds = join([normal(rng, 20, sizes.dim, 0, 1, BACKGROUND), *concept(rng, sizes.dim, label)])
        side = -1.0 if bool(label) == training else 1.0
        rows[:, 0], rows[:, 1] = rng.normal(side, 0.3, len(rows)), rng.normal(0, 1, len(rows))
        order = np.lexsort((rows[:, 0], rows[:, 1]))
        return rows[order], kinds[order]


TEST = Position()
