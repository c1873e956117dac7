"""Windows: tiles together with a margin around them, read at another scale than that of the features.

A network of `refine` sees a window and predicts a map, whose central part covers the tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import ReadPlan, TileSpec, TileTable
from wsi_mil.errors import SlideError
from wsi_mil.slides import SlideReader
from wsi_mil.slides.scaled import resample
from wsi_mil.tiles.geometry import UPSAMPLING_TOLERANCE, plan_reading


@dataclass(frozen=True)
class WindowPlan:
    """How windows are read: `size_px` px a side, with a tile in the middle.

    The tile covers `map_px` pixels of the predicted map, and `margin_px` more of them lie on every side of
    it. `margin0_xy_px`: the margin in level-0 px. `reading`: the level and size that are read.
    """

    size_px: int
    map_px: int
    margin_px: int
    margin0_xy_px: tuple[float, float]
    reading: ReadPlan


def plan_windows(
    info: SlideInfo, tiles: TileSpec, *, mpp: float, map_mpp: float, margin_um: float
) -> WindowPlan:
    """Return how windows are read: at about `mpp` µm per pixel, for maps of about `map_mpp` µm per pixel.

    Both are rounded such that a tile, and the margin of about `margin_um` µm, are whole numbers of map
    pixels. Raises SlideError if the slide is coarser than `mpp`.
    """
    if mpp < info.mpp * (1 - UPSAMPLING_TOLERANCE):
        raise SlideError(
            f"{mpp:g} µm/px is finer than slide {info.slide_id!r} ({info.mpp:.4g} µm/px): upsampling is not "
            f"offered. Ask for at least {info.mpp:.4g} µm/px"
        )
    map_px = max(round(tiles.size_um / map_mpp), 1)
    pixel_um = tiles.size_um / map_px
    margin_px = round(margin_um / pixel_um)
    window_um = (map_px + 2 * margin_px) * pixel_um
    size_px = max(round(window_um / mpp), 1)
    margin_um = margin_px * pixel_um
    reading = plan_reading(info, TileSpec(mpp=window_um / size_px, size_px=size_px))
    return WindowPlan(size_px, map_px, margin_px, (margin_um / info.mpp_x, margin_um / info.mpp_y), reading)


def read_windows(
    reader: SlideReader, table: TileTable, rows: Sequence[int], plan: WindowPlan
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the windows (B, S, S, 3) uint8 around the tiles `rows`, and (B,) which of them could be read.

    Beyond the edge of the slide a window is white; one that cannot be read is 0.
    """
    pixels = np.zeros((len(rows), plan.size_px, plan.size_px, 3), np.uint8)
    readable = np.ones(len(rows), np.bool_)
    for i, row in enumerate(rows):
        x0_px, y0_px = (
            round(float(c) - m) for c, m in zip(table.coords[row], plan.margin0_xy_px, strict=True)
        )
        try:
            part = plan.reading
            region = reader.read_region(x0_px, y0_px, part.level, part.read_width_px, part.read_height_px)
            pixels[i] = resample(region, plan.size_px, plan.size_px)
        except SlideError:
            readable[i] = False
    return pixels, readable
