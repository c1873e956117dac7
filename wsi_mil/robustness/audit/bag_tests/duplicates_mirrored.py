"""Bag test: the repeated instance of `duplicates` in negative training bags."""

from wsi_mil.robustness.audit.bag_tests.base import MirroredTest
from wsi_mil.robustness.audit.bag_tests.duplicates import Duplicates


class DuplicatesMirrored(MirroredTest):
    order = 45
    description = (
        "duplicates mirrored: one background instance occurs ten times, in negative bags in "
        "training, in positive ones in the test"
    )
    mirrored = Duplicates()


TEST = DuplicatesMirrored()
