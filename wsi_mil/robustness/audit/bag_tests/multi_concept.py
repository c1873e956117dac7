"""Bag test: positive means two kinds together, and an outlier is the shortcut (Raff and Holt 2023)."""

from numpy.random import Generator

from wsi_mil.robustness.audit.bag_tests.base import (
    BACKGROUND,
    CONCEPT,
    BagSizes,
    Instances,
    ShortcutTest,
    join,
    normal,
    outlier,
)


class MultiConcept(ShortcutTest):
    order = 20
    description = (
        "positive bags hold both of two kinds, negative bags one of them; an outlier as in single_concept"
    )

    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        """Positive: 1 to 3 instances of N(2, 0.1) and as many of N(3, 0.1). Negative: one instance
        of either.
        """
        parts = [normal(rng, int(rng.integers(1, 10)), sizes.dim, 0, 1, BACKGROUND)]
        count = int(rng.integers(1, 4))
        if label:
            parts += [normal(rng, count, sizes.dim, mean, 0.1, CONCEPT) for mean in (2.0, 3.0)]
        else:
            parts += [normal(rng, 1, sizes.dim, float(rng.choice([2.0, 3.0])), 0.1, CONCEPT)]
        if bool(label) != training:
            parts += [outlier(rng, sizes.dim)]
        return join(parts)


TEST = MultiConcept()
