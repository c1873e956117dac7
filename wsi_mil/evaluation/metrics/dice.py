"""Overlap of the pixels that are called tumour with those that are tumour."""

from wsi_mil.evaluation.pixel_metrics import PixelCounts
from wsi_mil.evaluation.table import DETECTION, MetricEntry


def dice(counts: PixelCounts) -> float:
    """Return 2 hits / (called + tumour) of counts at one threshold; NaN if nothing is called and nothing is
    tumour.

    >>> import numpy as np
    >>> dice(PixelCounts(called=np.array([30.0]), hits=np.array([20.0]), tumour=50.0))
    0.5
    """
    return float(counts.dice()[0])


METRICS = (MetricEntry("dice", "pixel", "pixel Dice", dice, ("counts",), tasks=DETECTION, position=410),)
