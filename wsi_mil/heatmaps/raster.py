"""Tile scores on a grid of square pixels of the slide; overlapping tiles are averaged, the rest is NaN."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.tiles import TileTable


@dataclass(frozen=True)
class ScoreRaster:
    """values (rows, columns) float32 in [0, 1] or NaN; pixel (0, 0) begins at level-0 (0, 0) and covers
    `scale_x_px` by `scale_y_px` level-0 pixels."""

    values: NDArray[np.float32]
    scale_x_px: float
    scale_y_px: float


def score_raster(table: TileTable, scores: NDArray[np.float32], pixels_per_tile: int = 4) -> ScoreRaster:
    """Return the raster of one score per tile, with `pixels_per_tile` raster pixels along a tile's stride.

    Tiles are placed by their level-0 corners, so nothing drifts towards the far corner; NaN scores leave NaN.
    """
    step0_x = table.spec.step_px * table.spec.mpp / table.mpp_xy[0]
    step0_y = table.spec.step_px * table.spec.mpp / table.mpp_xy[1]
    scale_x, scale_y = step0_x / pixels_per_tile, step0_y / pixels_per_tile
    width, height = table.slide_size_px
    shape = (math.ceil(height / scale_y), math.ceil(width / scale_x))
    # A difference image: each tile adds at its corners, two cumulative sums fill all rectangles at once.
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
