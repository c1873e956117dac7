"""Lesions from mask images with the values 0 and 1, 0 and 255, or 0, 1 and 2 (2 is tumour)."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from shapely import MultiPolygon

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.raster import polygonize

COARSEST_UM = 8.0  # includes level 5 at 0.243 µm/px (7.8 µm), whose pixels are those of FROC's own mask
TUMOUR_VALUES = {(1,): 1, (255,): 255, (1, 2): 2, (2,): 2}
TOLERANCE = 0.02
LARGEST_PX = 1 << 31


def read_mask(path: Path, info: SlideInfo) -> MultiPolygon:
    """Return the outline of a mask's tumour pixels in level-0 pixels of its slide; empty if there are none.

    Reads the coarsest level of at most 8 µm per pixel. Raises DataError, which names the file, if it cannot
    be read, if its ratio of width to height differs from the slide's by more than 2 %, or if it holds values
    other than {0, 1}, {0, 255} or {0, 1, 2}.
    """
    try:
        with tifffile.TiffFile(path) as file:
            levels = file.series[0].levels
            shapes = [level.shape[:2] for level in levels]
            chosen = _level(shapes, info)
            if math.prod(levels[chosen].shape) > LARGEST_PX:
                raise DataError(
                    f"{path}: no level of the mask has fewer than {LARGEST_PX} pixels: write a pyramid"
                )
            plane = np.asarray(levels[chosen].asarray())
    except WsiMilError:
        raise
    except Exception as error:  # decoders of damaged files may raise anything
        what = " ".join(str(error).split())
        raise DataError(f"{path} is not a readable mask image ({type(error).__name__}: {what})") from error
    plane = _one_channel(path, plane)
    rows, columns = shapes[0]
    # a level is a whole number of times coarser than the finest, even if its far edge was rounded or padded
    scale_x = round(columns / plane.shape[1]) * info.width_px / columns
    scale_y = round(rows / plane.shape[0]) * info.height_px / rows
    if abs((info.width_px / columns) / (info.height_px / rows) - 1) > TOLERANCE + 2 / min(rows, columns):
        raise DataError(
            f"{path}: a mask of {columns} x {rows} px does not have the shape of slide {info.slide_id!r}, "
            f"{info.width_px} x {info.height_px} px: it belongs to another slide, or was cropped"
        )
    found = [float(value) for value in np.unique(plane)]
    if any(not value.is_integer() for value in found):
        raise DataError(f"{path}: a mask holds whole numbers, this one holds {found[:6]}")
    values = tuple(int(value) for value in found if value)
    if not values:
        return MultiPolygon()
    if values not in TUMOUR_VALUES:
        raise DataError(
            f"{path}: a mask holds 0 and 1, 0 and 255, or 0, 1 and 2 (tumour); "
            f"this one holds {list(values)[:6]}"
        )
    return polygonize(plane == TUMOUR_VALUES[values], scale_x, scale_y)


def _one_channel(path: Path, plane: NDArray[Any]) -> NDArray[Any]:
    """Return the plane (H, W) of a mask; of a colour image the red channel, as the organisers' script does.

    Raises DataError where another channel marks pixels that red does not.
    """
    if plane.ndim == 2:
        return plane
    if plane.ndim != 3:
        raise DataError(f"{path}: a mask has rows and columns, this one has the shape {plane.shape}")
    red = plane[..., 0]
    if (plane[..., 1:3][red == 0] != 0).any():
        raise DataError(
            f"{path}: the red channel of a mask marks the tumour, and in this one another channel marks "
            "more: write it with one channel"
        )
    return np.asarray(red)


def _level(shapes: list[tuple[int, ...]], info: SlideInfo) -> int:
    """Return the number of the coarsest level of at most 8 µm per pixel; if there is none, of the finest."""
    fine = [i for i, shape in enumerate(shapes) if info.mpp_x * info.width_px / shape[1] <= COARSEST_UM]
    return fine[-1] if fine else 0
