"""An outline that crosses itself too often is refused before it is repaired."""

import time

import numpy as np
import pytest
import shapely
from shapely import Polygon

from wsi_mil import limits
from wsi_mil.errors import DataError
from wsi_mil.evaluation.annotations.rings import enclosed
from wsi_mil.geojson import geometry_of
from wsi_mil.outlines import check_outline, crossings


def scribble(points: int) -> np.ndarray:
    return np.random.default_rng(20).random((points, 2)) * 1e4


def test_crossings_are_those_of_all_pairs_of_segments() -> None:
    corners = scribble(40)
    lines = [shapely.LineString([a, b]) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)]
    expected = sum(one.crosses(other) for n, one in enumerate(lines) for other in lines[:n])
    assert crossings(Polygon(corners), 10**6) == expected > 100


@pytest.mark.parametrize(
    "corners", [[(0, 0)] * 4, [(0, 0), (0, 0), (3, 3)], [(0, 0), (3, 3), (3, 3), (0, 0)]]
)
def test_an_outline_without_area_crosses_nothing(corners: list[tuple[int, int]]) -> None:
    assert crossings(Polygon(corners), 10) == 0
    check_outline(Polygon(corners), "a ring")


@pytest.mark.parametrize("points", [3_000, 100_000])
def test_a_scribble_is_refused_in_time_and_one_below_the_limit_is_read(points: int) -> None:
    corners = scribble(points)
    item = {
        "id": "7",
        "geometry": {"type": "Polygon", "coordinates": [[*corners.tolist(), corners[0].tolist()]]},
    }
    start = time.perf_counter()
    with pytest.raises(DataError, match=f"feature 7: .*{limits.CROSSINGS.what}, at most 2,000"):
        geometry_of(item)
    with pytest.raises(DataError, match=limits.CROSSINGS.what):
        enclosed([(float(x), float(y)) for x, y in corners])
    assert time.perf_counter() - start < 20  # repairing 300 points takes longer
    assert enclosed([(float(x), float(y)) for x, y in scribble(40)]).area > 0


def test_an_outline_of_too_many_points_is_refused() -> None:
    angles = np.linspace(0, 2 * np.pi, limits.OUTLINE_POINTS.most, endpoint=False)
    circle = np.column_stack([np.cos(angles), np.sin(angles)]) * 1e4
    with pytest.raises(DataError, match=r"a ring: 2,000,001 points in one outline"):
        check_outline(Polygon(circle), "a ring")
    check_outline(Polygon(circle[::1000]), "a ring")
