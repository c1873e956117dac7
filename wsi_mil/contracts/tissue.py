"""Where the tissue of a slide is."""

from dataclasses import dataclass

import numpy as np
from shapely import MultiPolygon

from wsi_mil.contracts.arrays import Mask
from wsi_mil.contracts.record import Record, above_zero, require, require_array, require_name


@dataclass(frozen=True, eq=False)
class TissueMask(Record):
    """The tissue of a slide, which may be none.

    mask (rows, columns) bool: pixel (0, 0) begins at level-0 pixel (0, 0).
    scale_x_px, scale_y_px: level-0 pixels per mask pixel. mpp: µm per mask pixel.
    polygons: the same tissue in level-0 pixels.
    source: what found it: "auto", "otsu", "threshold", "whole" or "user" (polygons that a person drew or
    changed). how: in words, with the threshold and the colour of the glass; empty if it is not known.
    """

    mask: Mask
    scale_x_px: float
    scale_y_px: float
    mpp: float
    polygons: MultiPolygon
    source: str
    how: str = ""

    def __post_init__(self) -> None:
        where = f"tissue mask from {self.source!r}"
        require_array(self.mask, where, "mask", ("rows", "columns"), np.bool_)
        for field in ("scale_x_px", "scale_y_px", "mpp"):
            value = getattr(self, field)
            require(above_zero(value), where, field, "positive", value)
        valid = isinstance(self.polygons, MultiPolygon)
        require(valid, where, "polygons", "a MultiPolygon", self.polygons)
        require_name(self.source, where, "source")
