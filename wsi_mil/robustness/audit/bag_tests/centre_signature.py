"""Bag test: every instance of a bag carries the signature of a laboratory."""

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


class CentreSignature(ShortcutTest):
    order = 80
    description = (
        "every instance carries a laboratory's signature, in positive bags in training, in negative ones in "
        "the test"
    )
    held_against = False

    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        """The signature: 2 is added to a quarter of the dimensions."""
        rows, kinds = join([normal(rng, 20, sizes.dim, 0, 1, BACKGROUND), *concept(rng, sizes.dim, label)])
        if bool(label) == training:
            rows[:, : max(sizes.dim // 4, 1)] += 2.0
        return rows, kinds


TEST = CentreSignature()
