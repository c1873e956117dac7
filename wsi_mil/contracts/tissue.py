"""Where the tissue is."""

from dataclasses import dataclass

import numpy as np
from shapely import MultiPolygon

from wsi_mil.contracts.arrays import Mask
from wsi_mil.errors import DataError


@dataclass(frozen=True)
class TissueMask:
    """A boolean raster of tissue whose pixel (0, 0) begins at level-0 pixel (0, 0). Empty is legal.

    `scale_x_px`, `scale_y_px`: level-0 pixels per mask pixel. `polygons`: the same tissue in level-0 pixels.
    `source`: 'otsu', 'threshold', 'whole' or 'user' (edited polygons).
    """

    mask: Mask
    scale_x_px: float
    scale_y_px: float
    mpp: float
    polygons: MultiPolygon
    source: str

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_:
            raise DataError(f"a tissue mask is a 2-D boolean array, got {self.mask.ndim}-D {self.mask.dtype}")
        if min(self.scale_x_px, self.scale_y_px, self.mpp) <= 0:
            raise DataError(
                f"scale of a tissue mask must be positive, got {self.scale_x_px}, {self.scale_y_px} px"
            )
