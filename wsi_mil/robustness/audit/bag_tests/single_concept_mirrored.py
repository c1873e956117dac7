"""Bag test: the outlier of `single_concept` in positive training bags."""

from wsi_mil.robustness.audit.bag_tests.base import MirroredTest
from wsi_mil.robustness.audit.bag_tests.single_concept import SingleConcept


class SingleConceptMirrored(MirroredTest):
    order = 61
    description = (
        "single_concept mirrored: the outlier is in positive bags in training, in negative ones in the test"
    )
    held_against = False
    mirrored = SingleConcept()


TEST = SingleConceptMirrored()
