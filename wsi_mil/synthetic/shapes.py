"""Random shapes and points in µm, of which synthetic anatomy is made."""

import numpy as np
import shapely
from numpy.random import Generator
from numpy.typing import NDArray
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

Points = NDArray[np.float64]
"""(n, 2): x and y in µm."""


def blob(centre: Points, radius_um: float, aspect: float, wobble: float, rng: Generator) -> Polygon:
    """Return a smooth closed outline in µm: a circle with random harmonics, stretched by `aspect` and turned.

    wobble: how far the outline departs from an ellipse; 0 gives an ellipse.
    """
    angle = np.linspace(0, 2 * np.pi, 97)[:-1]
    radius = np.ones_like(angle)
    for order in range(2, 8):
        radius += wobble / order * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.45, 1.6)
    x, y = radius * np.cos(angle) * np.sqrt(aspect), radius * np.sin(angle) / np.sqrt(aspect)
    turn = rng.uniform(0, np.pi)
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    return Polygon(centre + radius_um * points).buffer(0)


def jittered_grid(bounds: tuple[float, float, float, float], spacing_um: float, rng: Generator) -> Points:
    """Return points (n, 2): a hexagonal grid, each point moved by up to 30 % of the spacing in x and y."""
    x0, y0, x1, y1 = bounds
    rows = np.arange(y0, y1, spacing_um * 0.87)
    columns = np.arange(x0, x1, spacing_um)
    grid_x, grid_y = np.meshgrid(columns, rows)
    grid_x[1::2] += spacing_um / 2
    points = np.stack([grid_x.ravel(), grid_y.ravel()], 1)
    return points + rng.uniform(-0.3, 0.3, points.shape) * spacing_um


def inside(points: Points, area: BaseGeometry) -> NDArray[np.bool_]:
    """Return which points (n, 2) lie inside `area`."""
    shapely.prepare(area)
    return np.asarray(shapely.contains_xy(area, points[:, 0], points[:, 1]))


def scattered_zones(
    tissue: BaseGeometry, spacing_um: float, fraction: float, radius_um: tuple[float, float], rng: Generator
) -> BaseGeometry:
    """Return blobs scattered inside the tissue, as one area.

    spacing_um: of the grid of possible centres; fraction: of these that have a blob; radius_um: smallest and
    largest.
    """
    centres = jittered_grid(tissue.bounds, spacing_um, rng)
    centres = centres[inside(centres, tissue.buffer(-radius_um[0])) & (rng.random(len(centres)) < fraction)]
    blobs = [blob(c, rng.uniform(*radius_um), rng.uniform(1, 1.5), 0.25, rng) for c in centres]
    return shapely.intersection(shapely.union_all(blobs), tissue.buffer(-10))
