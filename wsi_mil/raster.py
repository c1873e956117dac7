"""Between polygons and pixels, exactly: a pixel belongs to a polygon if its centre does."""

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon
from shapely.geometry.base import BaseGeometry

from wsi_mil.contracts.arrays import Mask


def rasterize(geometry: BaseGeometry, shape: tuple[int, int], scale_x_px: float, scale_y_px: float) -> Mask:
    """Return a mask of `shape` (rows, columns) that is True where a pixel's centre lies inside `geometry`.

    Pixel (row, column) covers level-0 x from column * scale_x_px to (column + 1) * scale_x_px, y alike. Holes are
    respected. Even-odd rule: parts must not overlap (union them first).

    >>> rasterize(shapely.box(1, 0, 3, 1), (2, 4), 1.0, 1.0).astype(int).tolist()
    [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), np.bool_)
    for ring in _rings(geometry):
        x, y = ring[:, 0] / scale_x_px - 0.5, ring[:, 1] / scale_y_px - 0.5  # pixel centres at whole numbers
        x0, x1, y0, y1 = x[:-1], x[1:], y[:-1], y[1:]
        swap = y0 > y1
        x0, x1, y0, y1 = (
            np.where(swap, x1, x0),
            np.where(swap, x0, x1),
            np.where(swap, y1, y0),
            np.where(swap, y0, y1),
        )
        first = np.clip(np.ceil(y0), 0, rows).astype(np.int64)  # half-open: a vertex on a row counts once
        last = np.clip(np.ceil(y1), 0, rows).astype(np.int64)
        counts = last - first
        edge = np.repeat(np.arange(len(counts)), counts)
        row = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + first[edge]
        crossing = x0[edge] + (row - y0[edge]) * (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
        column = np.clip(np.ceil(crossing), 0, columns).astype(np.int64)
        np.logical_xor.at(toggles, (row, column), True)
    return np.logical_xor.accumulate(toggles, axis=1)[:, :columns]


def _rings(geometry: BaseGeometry) -> list[NDArray[np.float64]]:
    polygons = [p for p in shapely.get_parts(geometry) if p.geom_type == "Polygon" and not p.is_empty]
    return [np.asarray(ring.coords) for p in polygons for ring in (p.exterior, *p.interiors)]


def polygonize(mask: Mask, scale_x_px: float, scale_y_px: float) -> MultiPolygon:
    """Return the exact outline of a mask's pixels in level-0 pixels: the inverse of `rasterize`.

    >>> polygonize(np.array([[True, True, False]]), 2.0, 2.0).area
    8.0
    """
    padded = np.pad(mask.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    _, stops = np.nonzero(steps == -1)
    boxes = shapely.box(starts * scale_x_px, rows * scale_y_px, stops * scale_x_px, (rows + 1) * scale_y_px)
    merged = shapely.union_all(boxes)
    return MultiPolygon([p for p in shapely.get_parts(merged) if p.geom_type == "Polygon"])
