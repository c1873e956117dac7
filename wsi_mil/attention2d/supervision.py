"""Boxes and outlines that people draw, as masks that GAIN_ext learns from."""

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry
from torch import Tensor

from wsi_mil.raster import rasterize


def box_masks(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (B, 1, H, W) float32, 1 inside each of `boxes` (B, 4): x0, y0, x1, y1 in pixels, the last ones
    not included.

    >>> box_masks(torch.tensor([[1, 0, 3, 1]]), (2, 4))[0, 0].tolist()
    [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    rows, columns = (torch.arange(length, device=boxes.device) for length in size)
    x0, y0, x1, y1 = (boxes[:, i, None] for i in range(4))
    inside_y, inside_x = (rows >= y0) & (rows < y1), (columns >= x0) & (columns < x1)
    return (inside_y[:, :, None] & inside_x[:, None, :]).float()[:, None]


def polygon_masks(
    area: BaseGeometry, corners0_px: NDArray[np.int32], size0_xy_px: tuple[float, float], side_px: int
) -> NDArray[np.bool_]:
    """Return (B, side_px, side_px): whether the centre of each pixel of a tile lies in `area`.

    area: level-0 px, parts that do not overlap. corners0_px (B, 2): top-left corners of the tiles.
    size0_xy_px: their width and height in level-0 px.

    >>> corners = np.array([[0, 0], [10, 0]], np.int32)
    >>> polygon_masks(shapely.box(0, 0, 15, 20), corners, (10.0, 10.0), 2).astype(int).tolist()
    [[[1, 1], [1, 1]], [[1, 0], [1, 0]]]
    """
    width0, height0 = size0_xy_px
    found = np.zeros((len(corners0_px), side_px, side_px), np.bool_)
    for i, (x0, y0) in enumerate(corners0_px.astype(float).tolist()):
        inside = translate(shapely.clip_by_rect(area, x0, y0, x0 + width0, y0 + height0), -x0, -y0)
        found[i] = rasterize(inside, (side_px, side_px), width0 / side_px, height0 / side_px)
    return found
