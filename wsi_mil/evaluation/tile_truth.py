"""Which tiles lie on lesions: by the fraction of their area, or by their centres."""

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.tiles import TileTable


def tile_overlap(table: TileTable, lesions: Sequence[Lesion]) -> NDArray[np.float64]:
    """Return (N,): the fraction of each tile's area that lies inside the lesions."""
    coords = table.coords.astype(np.float64)
    width, height = table.plan.tile_width0_px, table.plan.tile_height0_px
    fraction = np.zeros(len(coords))
    if not lesions or not len(coords):
        return fraction
    boxes = shapely.box(coords[:, 0], coords[:, 1], coords[:, 0] + width, coords[:, 1] + height)
    area = shapely.union_all([lesion.geometry for lesion in lesions])
    shapely.prepare(area)
    fraction[shapely.contains_properly(area, boxes)] = 1.0
    partly = shapely.intersects(area, boxes) & (fraction == 0)
    fraction[partly] = shapely.area(shapely.intersection(boxes[partly], area)) / (width * height)
    return fraction


def tile_centres(table: TileTable, lesions: Sequence[Lesion]) -> NDArray[np.bool_]:
    """Return (N,): whether each tile's centre lies inside a lesion."""
    centres = table.coords + np.array([table.plan.tile_width0_px, table.plan.tile_height0_px]) / 2
    area = shapely.union_all([lesion.geometry for lesion in lesions])
    return np.asarray(shapely.contains_xy(area, centres[:, 0], centres[:, 1]), np.bool_)
