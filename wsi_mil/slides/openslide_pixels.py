"""Pixels from an open OpenSlide handle: every pixel comes from one place, wherever a region is cut."""

from collections import OrderedDict
from typing import Any

import numpy as np

from wsi_mil.contracts.arrays import RGB

BLOCK_PX = 512
BLOCKS_KEPT = 64  # a row of tiles across a large slide
Blocks = OrderedDict[tuple[int, int, int], RGB]
"""The last blocks that one thread read, by (level, column, row): neighbouring tiles share them."""


def open_handle(path: str) -> Any:
    """Return a new OpenSlide handle."""
    import openslide

    return openslide.OpenSlide(path)


def library_version() -> str:
    """Return the versions of OpenSlide's Python package and of its library."""
    import openslide

    return f"{openslide.__version__} (library {openslide.__library_version__})"


def read_pixels(
    handle: Any, blocks: Blocks, level: int, x_px: int, y_px: int, width_px: int, height_px: int
) -> RGB:
    """Return a rectangle that lies inside `level`, all four numbers in that level's px; `blocks` of the calling thread."""
    if handle.level_downsamples[level].is_integer():
        return _pixels(handle, level, x_px, y_px, width_px, height_px)
    # Between whole pixels of a level OpenSlide interpolates, so the same pixel would differ from cut to cut
    # by up to 20 grey levels. Reading whole blocks gives each pixel one value.
    region = np.empty((height_px, width_px, 3), np.uint8)
    for row in range(y_px // BLOCK_PX, (y_px + height_px - 1) // BLOCK_PX + 1):
        for column in range(x_px // BLOCK_PX, (x_px + width_px - 1) // BLOCK_PX + 1):
            block = _block(handle, blocks, level, column, row)
            left, top = column * BLOCK_PX - x_px, row * BLOCK_PX - y_px
            here = region[max(top, 0) : top + BLOCK_PX, max(left, 0) : left + BLOCK_PX]
            inner = block[max(-top, 0) :, max(-left, 0) :]
            here[:] = inner[: here.shape[0], : here.shape[1]]
    return region


def _block(handle: Any, blocks: Blocks, level: int, column: int, row: int) -> RGB:
    """Return one block of a level, from `blocks` where it is there."""
    key = (level, column, row)
    if key not in blocks:
        level_width, level_height = handle.level_dimensions[level]
        x_px, y_px = column * BLOCK_PX, row * BLOCK_PX
        width, height = min(BLOCK_PX, level_width - x_px), min(BLOCK_PX, level_height - y_px)
        blocks[key] = _pixels(handle, level, x_px, y_px, width, height)
        if len(blocks) > BLOCKS_KEPT:
            blocks.popitem(last=False)
    blocks.move_to_end(key)
    return blocks[key]


def _pixels(handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
    # The library divides level-0 coordinates by its own downsample, the mean of both sides: undo that one.
    downsample = handle.level_downsamples[level]
    origin = (round(x_px * downsample), round(y_px * downsample))
    rgba = np.asarray(handle.read_region(origin, level, (width_px, height_px)))
    alpha = rgba[:, :, 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[:, :, :3])
    # Holes of a sparse pyramid show the scanner's background colour (white where it has none).
    colour = handle.properties.get("openslide.background-color", "FFFFFF")
    background = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)], np.float32)
    weight = alpha.astype(np.float32) / 255
    return np.rint(rgba[:, :, :3] * weight + background * (1 - weight)).astype(np.uint8)
