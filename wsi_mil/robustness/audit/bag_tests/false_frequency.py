"""Bag test: negative test bags hold many copies of one of two kinds (Raff and Holt 2023)."""

from numpy.random import Generator

from wsi_mil.robustness.audit.bag_tests.base import (
    BACKGROUND,
    CONCEPT,
    BagSizes,
    Instances,
    ShortcutTest,
    join,
    normal,
)


class FalseFrequency(ShortcutTest):
    order = 30
    description = (
        "positive bags hold both of two kinds; negative test bags hold 35 to 44 instances of one of them"
    )

    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        parts = [normal(rng, int(rng.integers(1, 10)), sizes.dim, 0, 1, BACKGROUND)]
        if label:
            parts += [normal(rng, 1, sizes.dim, mean, 0.1, CONCEPT) for mean in (2.0, 3.0)]
        else:
            count = 1 if training else int(rng.integers(35, 45))
            parts += [normal(rng, count, sizes.dim, float(rng.choice([2.0, 3.0])), 0.1, CONCEPT)]
        return join(parts)


TEST = FalseFrequency()
