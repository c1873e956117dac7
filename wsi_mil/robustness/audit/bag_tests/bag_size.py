"""Bag test: positive bags are larger in training, smaller in the test."""

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


class BagSize(ShortcutTest):
    order = 70
    description = (
        "positive bags are larger than negative ones in training (about 40 against 10), smaller in the test"
    )
    held_against = False

    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        large = bool(label) == training
        count = int(rng.integers(35, 46)) if large else int(rng.integers(8, 13))
        return join([normal(rng, count, sizes.dim, 0, 1, BACKGROUND), *concept(rng, sizes.dim, label)])


TEST = BagSize()
