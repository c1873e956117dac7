"""The fraction of tissue in each tile, by an integral image: exact, and in constant time per tile.

The integral image (summed-area table) is due to Crow, Summed-area tables for texture mapping, 1984.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.tissue import TissueMask


def tissue_fractions(
    tissue: TissueMask, coords: NDArray[np.int32], width0_px: float, height0_px: float
) -> NDArray[np.float32]:
    """Return (N,) float32 in [0, 1]: the fraction of each tile's area that the pixels of the mask cover.

    `coords`: (N, 2) top-left corners (x, y) in level-0 px; `width0_px`, `height0_px`: size of a tile in
    level-0 px. The integral image is interpolated between pixels, which is exact for a mask that is constant
    within each pixel.

    >>> from shapely import MultiPolygon
    >>> mask = TissueMask(np.array([[True, False]]), 4.0, 4.0, 1.0, MultiPolygon(), "whole")
    >>> tissue_fractions(mask, np.array([[0, 0], [2, 0]], np.int32), 4.0, 4.0).tolist()
    [1.0, 0.5]
    """
    rows, columns = tissue.mask.shape
    integral = cv2.integral(
        tissue.mask.view(np.uint8), sdepth=cv2.CV_64F
    )  # (rows + 1, columns + 1), first row and column 0
    left = np.clip(coords[:, 0] / tissue.scale_x_px, 0, columns)
    right = np.clip((coords[:, 0] + width0_px) / tissue.scale_x_px, 0, columns)
    top = np.clip(coords[:, 1] / tissue.scale_y_px, 0, rows)
    lower = np.clip((coords[:, 1] + height0_px) / tissue.scale_y_px, 0, rows)
    covered = (
        _at(integral, lower, right)
        - _at(integral, top, right)
        - _at(integral, lower, left)
        + _at(integral, top, left)
    )
    area = width0_px * height0_px / (tissue.scale_x_px * tissue.scale_y_px)
    return np.clip(covered / area, 0, 1).astype(np.float32)


def _at(integral: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the value of the integral image at (y, x), by bilinear interpolation."""
    row = np.minimum(y.astype(np.int64), integral.shape[0] - 2)
    column = np.minimum(x.astype(np.int64), integral.shape[1] - 2)
    dy, dx = y - row, x - column
    upper = integral[row, column] * (1 - dx) + integral[row, column + 1] * dx
    lower = integral[row + 1, column] * (1 - dx) + integral[row + 1, column + 1] * dx
    return np.asarray(upper * (1 - dy) + lower * dy)
