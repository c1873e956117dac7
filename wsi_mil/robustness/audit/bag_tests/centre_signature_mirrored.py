"""Bag test: the signature of `centre_signature` on negative training bags."""

from wsi_mil.robustness.audit.bag_tests.base import MirroredTest
from wsi_mil.robustness.audit.bag_tests.centre_signature import CentreSignature


class CentreSignatureMirrored(MirroredTest):
    order = 85
    description = (
        "centre_signature mirrored: negative bags carry the signature in training, positive ones in the test"
    )
    held_against = False
    mirrored = CentreSignature()


TEST = CentreSignatureMirrored()
