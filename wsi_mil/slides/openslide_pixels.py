"""Pixels from an open OpenSlide handle: a pixel has the same value in every region that holds it."""

from collections import OrderedDict
from typing import Any

import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.slides.base import on_background

BLOCK_PX = 512
BLOCKS_KEPT = 64  # a row of tiles across a large slide
Blocks = OrderedDict[tuple[int, int, int], RGB]
"""The blocks that one thread read last, by (level, column, row). Neighbouring tiles share blocks."""


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
    """Return (height_px, width_px, 3) uint8 of a rectangle inside `level`; all four numbers are pixels of it.

    `blocks`: the cache of the calling thread.
    """
    if handle.level_downsamples[level].is_integer():
        return _pixels(handle, level, x_px, y_px, width_px, height_px)
    # Where the downsample is no whole number, OpenSlide interpolates between pixels, so one pixel differed by
    # up to 20 grey levels between two regions. Reading fixed blocks gives every pixel one value.
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
    """Return one block of a level, read it if `blocks` does not hold it."""
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
    # OpenSlide divides level-0 coordinates by the mean downsample of both sides: multiply by the same number.
    downsample = handle.level_downsamples[level]
    origin = (round(x_px * downsample), round(y_px * downsample))
    rgba = np.asarray(handle.read_region(origin, level, (width_px, height_px)))
    # Where a pyramid has no tiles, its pixels are transparent: they show the background colour that the
    # scanner wrote, or white.
    colour = bytes.fromhex(handle.properties.get("openslide.background-color", "FFFFFF"))
    return on_background(rgba, (colour[0], colour[1], colour[2]))
