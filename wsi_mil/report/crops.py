"""A picture of the tissue around a point of a slide."""

import cv2
import numpy as np

from wsi_mil.contracts.tiles import TileTable
from wsi_mil.io.images import encode_jpeg
from wsi_mil.slides.base import SlideReader
from wsi_mil.slides.scaled import best_level, resample

CROP_PX, TILES_WIDE = 210, 3
OUTLINE = (255, 210, 0)
QUALITY = 88


def tissue_crop(slide: SlideReader, table: TileTable, x0_px: int, y0_px: int) -> bytes:
    """Return a JPEG of 210 x 210 px, three tiles wide, centred on level-0 (x0_px, y0_px); the middle tile is
    outlined.
    """
    info, plan = slide.info, table.plan
    width0, height0 = TILES_WIDE * plan.tile_width0_px, TILES_WIDE * plan.tile_height0_px
    level = best_level(info, width0 / CROP_PX, height0 / CROP_PX)
    level_width, level_height = info.level_sizes_px[level]
    region = slide.read_region(
        round(x0_px - width0 / 2),
        round(y0_px - height0 / 2),
        level,
        max(round(width0 * level_width / info.width_px), 1),
        max(round(height0 * level_height / info.height_px), 1),
    )
    picture = np.ascontiguousarray(resample(region, CROP_PX, CROP_PX))
    inner = CROP_PX // TILES_WIDE
    cv2.rectangle(picture, (inner, inner), (2 * inner, 2 * inner), OUTLINE, 2)
    return encode_jpeg(picture, QUALITY)
