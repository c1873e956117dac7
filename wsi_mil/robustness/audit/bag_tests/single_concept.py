"""Bag test: one kind of positive instance, and an outlier as the shortcut (Raff and Holt 2023)."""

from numpy.random import Generator

from wsi_mil.robustness.audit.bag_tests.base import (
    BACKGROUND,
    BagSizes,
    Instances,
    ShortcutTest,
    concept,
    join,
    normal,
    outlier,
)


class SingleConcept(ShortcutTest):
    order = 10
    description = (
        "positive bags hold one kind of positive instance; an outlier is in negative bags in training, "
        "in positive ones in the test"
    )

    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        parts = [normal(rng, 20, sizes.dim, 0, 1, BACKGROUND), *concept(rng, sizes.dim, label)]
        with_outlier = bool(label) != training
        return join([*parts, *([outlier(rng, sizes.dim)] if with_outlier else [])])


TEST = SingleConcept()
