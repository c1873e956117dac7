"""From the corners that a tool stored to the area that they enclose."""

import math
import re
from collections.abc import Sequence

import shapely
from shapely import MultiPolygon, Polygon

from wsi_mil.errors import DataError
from wsi_mil.geojson import polygonal
from wsi_mil.outlines import check_outline

Corner = tuple[float, float]
LARGEST_PX = 1e8  # no slide is larger than 10 million pixels along a side
ELLIPSE_CORNERS = 128
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
MAY_BE_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def coordinate(text: object, where: str) -> float:
    """Return a coordinate. Raises DataError, which says `where`, for anything but a finite number.

    A decimal comma is read, unless it may also separate thousands ("12,345").

    >>> coordinate("12.5", "point 1"), coordinate("12,5", "point 1"), coordinate("1234,567", "point 1")
    (12.5, 12.5, 1234.567)
    """
    if isinstance(text, str) and DECIMAL_COMMA.fullmatch(text.strip()):
        if MAY_BE_THOUSANDS.fullmatch(text.strip()):
            raise DataError(
                f"{where}: {text!r} is no finite number without doubt, its comma may separate thousands or "
                "decimals: write the decimals after a point"
            )
        text = text.replace(",", ".")
    try:
        value = float(text) if isinstance(text, str | int | float) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not abs(value) <= LARGEST_PX * 1e3:
        raise DataError(f"{where}: {text!r} is no finite number: correct the file or export it again")
    return value


def enclosed(ring: Sequence[Corner]) -> MultiPolygon | None:
    """Return the area of a closed outline; None with fewer than three corners.

    An outline that crosses itself encloses the points whose winding number is not zero.

    >>> enclosed([(0, 0), (4, 0), (4, 2), (0, 2)]).area
    8.0
    """
    if len(ring) < 3:
        return None
    polygon = Polygon(ring)
    if polygon.is_valid:
        return polygonal(polygon)
    check_outline(polygon, "an outline")
    simple = bool(shapely.LinearRing(ring).is_simple)
    return polygonal(polygon.buffer(0) if simple else _wound(ring))


def rectangle(corners: Sequence[Corner]) -> MultiPolygon | None:
    """Return the area of a rectangle of four corners, or of two that lie opposite each other.

    >>> rectangle([(5, 1), (1, 3)]).area
    8.0
    """
    if len(corners) == 2:
        (x0, y0), (x1, y1) = corners
        return enclosed([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return enclosed(corners)


def ellipse(corners: Sequence[Corner]) -> MultiPolygon | None:
    """Return the ellipse that fills the upright rectangle around `corners`, as a polygon of 128 corners."""
    if len(corners) < 2:
        return None
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    middle = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    radii = (max(xs) - min(xs)) / 2, (max(ys) - min(ys)) / 2
    angles = [2 * math.pi * step / ELLIPSE_CORNERS for step in range(ELLIPSE_CORNERS)]
    return enclosed(
        [(middle[0] + radii[0] * math.cos(a), middle[1] + radii[1] * math.sin(a)) for a in angles]
    )


def _wound(ring: Sequence[Corner]) -> MultiPolygon:
    """Return the area that a self-crossing ring encloses by the non-zero winding rule.

    The ring cuts the plane into faces; those with a winding number other than 0 belong to the area.
    """
    lines = shapely.union_all(shapely.LinearRing(ring))
    faces = shapely.get_parts(shapely.polygonize([lines]))
    inside = [face for face in faces if _winding(ring, face.representative_point().coords[0]) != 0]
    return polygonal(shapely.union_all(inside))


def _winding(ring: Sequence[Corner], point: Sequence[float]) -> int:
    """Return how often the ring goes around the point (Sunday's winding number algorithm, 2001)."""
    x, y = point[:2]
    turns = 0
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        if y0 <= y < y1 and side > 0:
            turns += 1
        elif y1 <= y < y0 and side < 0:
            turns -= 1
    return turns
