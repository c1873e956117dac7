"""Pixel level: the overlap of the pixels that a model calls tumour with those that are tumour."""

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
    """Areas on one slide, or several, in one unit (µm² or pixels).

    called (T,): area at or above each of T thresholds. hits (T,): the part of it that is tumour. tumour: area
    of tumour.
    """

    called: NDArray[np.float64]
    hits: NDArray[np.float64]
    tumour: float

    def dice(self) -> NDArray[np.float64]:
        """Return 2 hits / (called + tumour), (T,); NaN where nothing is called and nothing is tumour."""
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
    """Return the areas of a raster of probabilities (rows, columns) at each of `thresholds` (T,).

    values: NaN where there is no score; such pixels are never called. scale_xy_px: level-0 pixels that a
    pixel of the raster covers; it is tumour if its centre lies in a lesion. pixel_um2: area of a pixel.

    >>> raster = np.array([[0.9, 0.2]], np.float32)
    >>> lesion = Lesion("s", "tumour", shapely.MultiPolygon([shapely.box(0, 0, 20, 10)]))
    >>> pixel_counts(raster, (10, 10), [lesion], np.array([0.5])).dice().round(3).tolist()
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
    """Return the areas of several slides together, all at the same thresholds."""
    called = np.sum([part.called for part in parts], 0)
    return PixelCounts(
        called, np.sum([part.hits for part in parts], 0), float(sum(part.tumour for part in parts))
    )
