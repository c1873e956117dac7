"""From polygons to pixels and back, exactly: a pixel belongs to a polygon if its centre lies inside.

`rasterize` is scan-line polygon filling by the even-odd rule (Foley et al., Computer Graphics, 1990), for all
edges at once. `polygonize` follows the edges between pixels (crack following: Rosenfeld and Kak, Digital
Picture Processing, 1982). It visits corners only: sorted along rows and along columns, they pair up as the
ends of edges (O'Rourke, Uniqueness of orthogonal connect-the-dots, 1988).
"""

from collections import defaultdict

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from wsi_mil.contracts.arrays import Mask


def rasterize(geometry: BaseGeometry, shape: tuple[int, int], scale_x_px: float, scale_y_px: float) -> Mask:
    """Return a mask of `shape` (rows, columns) that is True where a pixel's centre lies inside `geometry`.

    Pixel (row, column) covers level-0 x from column * scale_x_px to (column + 1) * scale_x_px, y alike.
    Holes are respected. Even-odd rule: parts must not overlap (union them first).

    >>> rasterize(shapely.box(1, 0, 3, 1), (2, 4), 1.0, 1.0).astype(int).tolist()
    [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), np.uint8)
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
        np.add.at(toggles, (row, column), 1)  # only even or odd matters, so that wrapping round does not
    np.bitwise_and(toggles, 1, out=toggles)
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :columns].view(np.bool_)


def _rings(geometry: BaseGeometry) -> list[NDArray[np.float64]]:
    polygons = [p for p in shapely.get_parts(geometry) if p.geom_type == "Polygon" and not p.is_empty]
    return [np.asarray(ring.coords) for p in polygons for ring in (p.exterior, *p.interiors)]


def polygonize(mask: Mask, scale_x_px: float, scale_y_px: float) -> MultiPolygon:
    """Return the exact outline of a mask's pixels in level-0 pixels: the inverse of `rasterize`.

    Pixels that share only a corner lie in two polygons. Each ring begins at its topmost, then leftmost
    point, and has no point in the middle of a straight edge: equal masks give equal outlines.

    >>> polygonize(np.array([[True, True, False]]), 2.0, 2.0).area
    8.0
    """
    columns = mask.shape[1] + 1
    rings: dict[bool, dict[int, list[NDArray[np.float64]]]] = {
        True: defaultdict(list),
        False: defaultdict(list),
    }
    _, labels = cv2.connectedComponents(np.pad(mask.astype(np.uint8), 1), connectivity=4)
    for ring in _trace(mask):
        y, x = np.divmod(ring, columns)
        # below right of its topmost, leftmost point a piece of the mask begins, or a hole of the piece above
        below, above = int(labels[y[0] + 1, x[0] + 1]), int(labels[y[0], x[0] + 1])
        rings[below > 0][below or above].append(np.stack([x * scale_x_px, y * scale_y_px], 1))
    return MultiPolygon(
        [Polygon(rings[True][label][0], rings[False][label]) for label in sorted(rings[True])]
    )


# The four pixels around a point of the grid are bits: 1 above left, 2 above right, 4 below left, 8 below
# right. A ring that keeps the mask on its left leaves these corners along a row, and all others along a
# column.
_ALONG_ROW = (2, 4, 7, 14)
_TOUCHING = {9: (1, 8), 6: (4, 2)}  # two pixels that share only this corner: two corners, the left one first
_BELOW = (4, 8)  # of these two, the one whose edge along the column runs downwards


def _trace(mask: Mask) -> list[NDArray[np.int64]]:
    """Return the boundary of a mask as rings that do not meet themselves.

    A ring holds its corners, each as row * (columns + 1) + column of the grid of points between pixels.
    """
    height, width = mask.shape[0] + 1, mask.shape[1] + 1
    padded = np.pad(mask.astype(np.uint8), 1)
    around = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    turns = np.ones(256, np.uint8)
    turns[[0, 3, 5, 10, 12, 15]] = 0  # inside, outside, and straight edges
    point = np.flatnonzero(cv2.LUT(around, turns))
    kind = around.ravel()[point]
    touching = np.isin(kind, list(_TOUCHING))
    point, kind = np.repeat(point, 1 + touching), np.repeat(kind, 1 + touching)
    second = np.flatnonzero(np.repeat(touching, 1 + touching))[1::2]
    for both, (west, east) in _TOUCHING.items():
        here = second[kind[second] == both]
        kind[here - 1], kind[here] = west, east
    # Along a row, corners pair up as ends of edges: 0 with 1, 2 with 3; so do they along a column.
    number = np.arange(len(point))
    row, column = np.divmod(point, width)
    by_column = np.argsort((column * height + row) * 2 + np.isin(kind, _BELOW), kind="stable")
    partner = np.empty_like(number)
    partner[by_column] = by_column[number ^ 1]
    follows = np.where(np.isin(kind, _ALONG_ROW), number ^ 1, partner).tolist()
    ring_of = np.full(len(point), -1)
    rings: list[NDArray[np.int64]] = []
    unseen = bytearray(b"\x01") * len(point)
    start = unseen.find(1)
    while start >= 0:
        ring = []
        corner = start
        while unseen[corner]:
            unseen[corner] = 0
            ring.append(corner)
            corner = follows[corner]
        ring_of[ring] = len(rings)
        rings.append(point[ring])
        start = unseen.find(1, start)
    meeting = set(ring_of[second][ring_of[second] == ring_of[second - 1]].tolist())
    return [
        simple
        for number, ring in enumerate(rings)
        for simple in (_simple(ring) if number in meeting else [ring])
    ]


def _simple(ring: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the parts of a ring that meets itself, cut at the points where it does.

    Each part begins at its topmost, then leftmost point.
    """
    found: list[NDArray[np.int64]] = []
    path: list[int] = []
    place: dict[int, int] = {}
    for point in [*ring.tolist(), int(ring[0])]:
        if point in place:
            loop = path[place[point] :]
            found.append(np.roll(loop, -int(np.argmin(loop))))
            for gone in loop:
                del place[gone]
            del path[-len(loop) :]
        place[point] = len(path)
        path.append(point)
    return found
