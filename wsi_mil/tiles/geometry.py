"""Where tiles lie and how they are read. This is arithmetic: nothing here opens a slide.

There are three frames: the tile (pixels at the requested mpp), the level that is read, and level 0. Names
state the frame: `size_px` is in tile pixels, `read_width_px` in pixels of the level, `width0_px` in level-0
pixels.
"""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import ReadPlan, TileSpec
from wsi_mil.errors import SlideError
from wsi_mil.slides.scaled import best_level

UPSAMPLING_TOLERANCE = 0.05
"""Scanners of one nominal magnification differ by this much (0.243 to 0.2527 µm/px at 40x)."""


def plan_reading(info: SlideInfo, spec: TileSpec) -> ReadPlan:
    """Return how tiles of `spec` are read from this slide.

    Raises SlideError if the slide is coarser than requested by more than 5 %, since tiles are never enlarged
    more.
    """
    scale_x, scale_y = spec.mpp / info.mpp_x, spec.mpp / info.mpp_y
    if min(scale_x, scale_y) < 1 - UPSAMPLING_TOLERANCE:
        coarse = max(info.mpp_x, info.mpp_y)
        raise SlideError(
            f"tiles.mpp={spec.mpp:g} is finer than slide {info.slide_id!r} ({coarse:.4g} µm/px): upsampling "
            f"is not offered. Ask for tiles.mpp >= {coarse:.4g}"
        )
    level = best_level(info, scale_x, scale_y)
    level_width, level_height = info.level_sizes_px[level]
    downsample_x, downsample_y = info.width_px / level_width, info.height_px / level_height
    width0, height0 = spec.size_px * scale_x, spec.size_px * scale_y
    return ReadPlan(
        level=level,
        downsample_x=downsample_x,
        downsample_y=downsample_y,
        read_width_px=max(round(width0 / downsample_x), 1),
        read_height_px=max(round(height0 / downsample_y), 1),
        tile_width0_px=width0,
        tile_height0_px=height0,
    )


def tile_grid(info: SlideInfo, spec: TileSpec) -> NDArray[np.int32]:
    """Return the top-left corners (N, 2) int32 of all tiles inside the slide: (x, y) in level-0 px, sorted by
    (y, x).

    The grid starts at level-0 (0, 0) and does not depend on the tissue. Each corner is rounded by itself, so
    that rounding errors do not add up. There are none if a tile is larger than the slide.
    """
    x0, y0 = (
        _corners(length, spec.size_px * spec.mpp / mpp, spec.step_px * spec.mpp / mpp)
        for length, mpp in ((info.width_px, info.mpp_x), (info.height_px, info.mpp_y))
    )
    grid_y, grid_x = np.meshgrid(y0, x0, indexing="ij")
    return np.stack([grid_x.ravel(), grid_y.ravel()], axis=1).astype(np.int32)


def _corners(length_px: int, size_px: float, step_px: float) -> NDArray[np.int64]:
    """Return where tiles begin along one side of the slide; all numbers are level-0 px."""
    if size_px > length_px + 0.5:
        return np.empty(0, np.int64)
    count = int((length_px + 0.5 - size_px) / step_px) + 1
    corners = np.rint(np.arange(count) * step_px).astype(np.int64)
    return np.unique(corners[corners + size_px <= length_px + 1])
