"""Read a slide at any scale: from the coarsest level that is fine enough, then area averaging."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import cv2
import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.execution.spec import available_cores
from wsi_mil.slides.base import SlideReader

STRIPS_FOR_THREADS = 4  # with fewer strips it costs more to open the slide in every thread than threads gain
MOST_THREADS = 4
FINER_TOLERANCE = 1.001  # a level may be this much too coarse, since sizes of levels are rounded


def best_level(info: SlideInfo, scale_x: float, scale_y: float) -> int:
    """Return the coarsest level that is at least as fine as `scale_x`, `scale_y` level-0 pixels per pixel.

    Returns level 0 if no level is fine enough: the caller decides whether to enlarge or to refuse.
    """
    best = 0
    for level, (width, height) in enumerate(info.level_sizes_px):
        fits_x = info.width_px / width <= scale_x * FINER_TOLERANCE
        fits_y = info.height_px / height <= scale_y * FINER_TOLERANCE
        if fits_x and fits_y and width * height < math.prod(info.level_sizes_px[best]):
            best = level
    return best


def read_scaled(reader: SlideReader, mpp: float, strip_px: int = 1024) -> RGB:
    """Return the whole slide (H, W, 3) uint8 at `mpp` µm/px; it is never enlarged.

    Each side has ceil(size * mpp_slide / mpp) pixels, and pixel (0, 0) begins at level-0 (0, 0). The slide is
    read in strips of about `strip_px` rows, so that memory does not grow with the file.

    >>> from wsi_mil.slides import ArrayReader
    >>> read_scaled(ArrayReader(np.zeros((40, 60, 3), np.uint8), mpp=0.5), mpp=5.0).shape
    (4, 6, 3)
    """
    info = reader.info
    scale_x, scale_y = max(mpp / info.mpp_x, 1.0), max(mpp / info.mpp_y, 1.0)
    width, height = math.ceil(info.width_px / scale_x), math.ceil(info.height_px / scale_y)
    level = best_level(info, scale_x, scale_y)
    level_width, level_height = info.level_sizes_px[level]
    step_x, step_y = scale_x * level_width / info.width_px, scale_y * level_height / info.height_px
    rows = max(int(strip_px / max(step_y, 1.0)), 1)
    columns = max(int(8 * strip_px / max(step_x, 1.0)), 1)
    image = np.empty((height, width, 3), np.uint8)

    def read(corner: tuple[int, int]) -> None:
        top, left = corner
        lower, right = min(top + rows, height), min(left + columns, width)
        region = reader.read_region(
            round(left * scale_x),
            round(top * scale_y),
            level,
            max(round((right - left) * step_x), 1),
            max(round((lower - top) * step_y), 1),
        )
        image[top:lower, left:right] = resample(region, right - left, lower - top)

    strips = list(product(range(0, height, rows), range(0, width, columns)))
    if len(strips) < STRIPS_FOR_THREADS:
        for strip in strips:
            read(strip)
    else:
        with ThreadPoolExecutor(min(available_cores(), MOST_THREADS), thread_name_prefix="strips") as pool:
            list(pool.map(read, strips))
    return image


def resample(pixels: RGB, width_px: int, height_px: int) -> RGB:
    """Return `pixels` (H, W, 3) at another size: area averaging to shrink, linear to enlarge."""
    if pixels.shape[:2] == (height_px, width_px):
        return pixels
    shrinks = pixels.shape[0] >= height_px and pixels.shape[1] >= width_px
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width_px, height_px), interpolation=method), np.uint8)
