"""How often an outline crosses itself: the time that its repair takes grows with the square of that."""

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from wsi_mil import limits

PAIRS = 1 << 21
"""Pairs of segments that are compared at once at most."""


def check_outline(geometry: BaseGeometry, where: str) -> None:
    """Raise DataError, which says `where`, if an outline has too many points, or crosses itself too often."""
    limits.OUTLINE_POINTS.check(int(shapely.get_num_coordinates(geometry)), where)
    if not geometry.is_valid:
        limits.CROSSINGS.check(crossings(geometry, limits.CROSSINGS.most), where)


def crossings(geometry: BaseGeometry, enough: int) -> int:
    """Return how many pairs of segments of all outlines meet; counting ends soon after `enough` are found.

    Neighbours, which meet in their common point, are not counted.

    >>> crossings(shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]), 10)
    1
    """
    rings = shapely.get_rings(shapely.get_parts(geometry))
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    moves = (ring[:-1] == ring[1:]) & (corners[:-1] != corners[1:]).any(axis=1)  # a point may be repeated
    ends = np.stack([corners[:-1], corners[1:]], axis=1)[moves]
    if not len(ends):
        return 0
    segments = shapely.linestrings(ends)
    tree, found = shapely.STRtree(segments), 0
    step = max(PAIRS // len(segments), 1)
    for start in range(0, len(segments), step):
        met = tree.query(segments[start : start + step], predicate="intersects").shape[1]
        found += met - 3 * len(segments[start : start + step])  # itself and its two neighbours
        if found > 2 * enough:
            break
    return max(found, 0) // 2
