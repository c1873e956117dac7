"""Tile scores as a raster over the slide: overlapping tiles are averaged, pixels without a tile are NaN."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.record import Record, above_zero, require, require_array
from wsi_mil.contracts.tiles import TileTable


@dataclass(frozen=True, eq=False)
class ScoreRaster(Record):
    """A raster of score01 over a slide.

    values (rows, columns) float32: from 0 to 1, NaN where there is no score.
    Pixel (0, 0) begins at level-0 (0, 0); each pixel covers `scale_x_px` by `scale_y_px` level-0 pixels.
    """

    values: NDArray[np.float32]
    scale_x_px: float
    scale_y_px: float

    def __post_init__(self) -> None:
        require_array(self.values, "score raster", "values", ("rows", "columns"), np.float32)
        known = self.values[~np.isnan(self.values)]
        valid = len(known) == 0 or bool(known.min() >= 0 and known.max() <= 1)
        require(valid, "score raster", "values", "from 0 to 1 or NaN", known[:4].tolist())
        for field in ("scale_x_px", "scale_y_px"):
            value = getattr(self, field)
            require(above_zero(value), "score raster", field, "positive", value)


def score_raster(table: TileTable, scores: NDArray[np.float32], pixels_per_tile: int = 4) -> ScoreRaster:
    """Return the raster of tile scores (N,), with `pixels_per_tile` raster pixels along a tile's stride.

    Tiles are placed by their level-0 corners, so that rounding errors do not add up towards the far corner.
    A tile whose score is NaN counts as no tile.
    """
    step0_x = table.spec.step_px * table.spec.mpp / table.mpp_xy[0]
    step0_y = table.spec.step_px * table.spec.mpp / table.mpp_xy[1]
    scale_x, scale_y = step0_x / pixels_per_tile, step0_y / pixels_per_tile
    width, height = table.slide_size_px
    shape = (math.ceil(height / scale_y), math.ceil(width / scale_x))
    # Difference image (inverse of the summed-area table of Crow, 1984): each tile adds at its four corners,
    # then two cumulative sums fill all rectangles at once.
    total, count = np.zeros((shape[0] + 1, shape[1] + 1)), np.zeros((shape[0] + 1, shape[1] + 1))
    finite = np.isfinite(scores)
    coords = table.coords[finite]
    left = np.rint(coords[:, 0] / scale_x).astype(np.int64)
    top = np.rint(coords[:, 1] / scale_y).astype(np.int64)
    right = np.minimum(
        np.rint((coords[:, 0] + table.plan.tile_width0_px) / scale_x).astype(np.int64), shape[1]
    )
    lower = np.minimum(
        np.rint((coords[:, 1] + table.plan.tile_height0_px) / scale_y).astype(np.int64), shape[0]
    )
    values = scores[finite].astype(np.float64)
    for grid, amount in ((total, values), (count, np.ones_like(values))):
        np.add.at(grid, (top, left), amount)
        np.add.at(grid, (top, right), -amount)
        np.add.at(grid, (lower, left), -amount)
        np.add.at(grid, (lower, right), amount)
    summed = total.cumsum(0).cumsum(1)[:-1, :-1]
    covered = np.rint(count.cumsum(0).cumsum(1)[:-1, :-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(covered > 0, summed / covered, np.nan)
    return ScoreRaster(np.clip(mean, 0, 1).astype(np.float32), scale_x, scale_y)
