"""Bag test: one background instance is repeated ten times."""

import numpy as np
from numpy.random import Generator

from wsi_mil.robustness.audit.bag_tests.base import (
    BACKGROUND,
    SHORTCUT,
    BagSizes,
    Instances,
    ShortcutTest,
    concept,
    join,
    normal,
)


class Duplicates(ShortcutTest):
    order = 40
    description = (
        "one background instance occurs ten times, in positive bags in training, in negative ones in the test"
    )

    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        parts = [normal(rng, 12, sizes.dim, 0, 1, BACKGROUND)]
        if bool(label) == training:
            rows, kinds = normal(rng, 1, sizes.dim, 0, 1, SHORTCUT)
            parts.append((np.repeat(rows, 10, 0), np.repeat(kinds, 10)))
        else:
            parts.append(normal(rng, 10, sizes.dim, 0, 1, BACKGROUND))
        return join([*parts, *concept(rng, sizes.dim, label)])


TEST = Duplicates()
