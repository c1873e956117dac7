"""Bag test: the outlier of `multi_concept` in positive training bags."""

from wsi_mil.robustness.audit.bag_tests.base import MirroredTest
from wsi_mil.robustness.audit.bag_tests.multi_concept import MultiConcept


class MultiConceptMirrored(MirroredTest):
    order = 62
    description = (
        "multi_concept mirrored: the outlier is in positive bags in training, in negative ones in the test"
    )
    held_against = False
    mirrored = MultiConcept()


TEST = MultiConceptMirrored()
