"""Bag test: `bag_size` with larger negative training bags."""

from wsi_mil.robustness.audit.bag_tests.bag_size import BagSize
from wsi_mil.robustness.audit.bag_tests.base import MirroredTest


class BagSizeMirrored(MirroredTest):
    order = 75
    description = "bag_size mirrored: negative bags are larger in training, smaller in the test"
    held_against = False
    mirrored = BagSize()


TEST = BagSizeMirrored()
