"""Pixel level: how much of what is called tumour is tumour, and how much of the tumour is called so?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.raster import rasterize

THRESHOLDS = np.round(np.linspace(0.01, 0.99, 99), 2)


@dataclass(frozen=True)
class PixelCounts:
    """For every threshold (T,): called pixels, called pixels that are tumour; and the tumour's pixels. Areas in µm² alike."""

    called: NDArray[np.float64]
    hits: NDArray[np.float64]
    tumour: float

    def dice(self) -> NDArray[np.float64]:
        """Return 2 hits / (called + tumour), NaN where neither is anything."""
        both = self.called + self.tumour
        with np.errstate(invalid="ignore"):
            return np.where(both > 0, 2 * self.hits / both, np.nan)


def pixel_counts(
    values: NDArray[np.float32],
    scale_xy_px: tuple[float, float],
    lesions: Sequence[Lesion],
    thresholds: NDArray[np.float64],
    pixel_um2: float = 1.0,
) -> PixelCounts:
    """Return the counts of a raster (rows, columns), NaN where there is no score, at or above each threshold.

    A pixel of the raster covers `scale_xy_px` level-0 pixels and is tumour if its centre lies in a lesion.

    >>> raster = np.array([[0.9, 0.2]], np.float32)
    >>> counts = pixel_counts(raster, (10, 10), [Lesion("s", "tumour", shapely.MultiPolygon([shapely.box(0, 0, 20, 10)]))], np.array([0.5]))
    >>> counts.dice().round(3).tolist()
    [0.667]
    """
    area = shapely.union_all([lesion.geometry for lesion in lesions])
    truth = rasterize(area, values.shape, *scale_xy_px) if lesions else np.zeros(values.shape, np.bool_)
    scores = np.nan_to_num(values, nan=-1.0)

    def at_least(chosen: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(
            (len(chosen) - np.searchsorted(np.sort(chosen), thresholds)) * pixel_um2, np.float64
        )

    return PixelCounts(at_least(scores.ravel()), at_least(scores[truth]), float(truth.sum()) * pixel_um2)


def pooled_counts(parts: Sequence[PixelCounts]) -> PixelCounts:
    """Return the counts of several slides together."""
    called = np.sum([part.called for part in parts], 0)
    return PixelCounts(
        called, np.sum([part.hits for part in parts], 0), float(sum(part.tumour for part in parts))
    )
