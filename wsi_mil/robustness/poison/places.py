"""Where poison can lie on a slide: rectangles and pen strokes in level-0 px. Nothing here reads pixels."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.contracts.tiles import TileTable

GRID_PX = 512

if TYPE_CHECKING:
    from wsi_mil.robustness.poison.spec import PoisonSpec


def _no_patches() -> NDArray[np.int64]:
    return np.zeros((0, 4), np.int64)


@dataclass(frozen=True)
class Places:
    """patches (M, 4) int64: x0, y0, width, height; strokes: polylines (K, 2). All in level-0 px."""

    patches: NDArray[np.int64] = field(default_factory=_no_patches)
    strokes: tuple[NDArray[np.float64], ...] = ()


def tile_boxes(table: TileTable, margin_px: float = 0.0) -> NDArray[np.object_]:
    """Return (N,) the tiles as shapely boxes in level-0 px, each side moved outwards by `margin_px`."""
    x0, y0 = table.coords.T.astype(np.float64)
    right, lower = x0 + table.plan.tile_width0_px, y0 + table.plan.tile_height0_px
    return np.asarray(
        shapely.box(x0 - margin_px, y0 - margin_px, right + margin_px, lower + margin_px), dtype=np.object_
    )


def patch_boxes(patches: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return (M,) patches (M, 4) as shapely boxes in level-0 px."""
    x0, y0, width, height = patches.T
    return np.asarray(shapely.box(x0, y0, x0 + width, y0 + height), dtype=np.object_)


def whole_slide_patches(width_px: int, height_px: int) -> NDArray[np.int64]:
    """Return (M, 4) patches of at most 512 px that cover every pixel of a slide once."""
    found = [
        (x0, y0, min(GRID_PX, width_px - x0), min(GRID_PX, height_px - y0))
        for y0 in range(0, height_px, GRID_PX)
        for x0 in range(0, width_px, GRID_PX)
    ]
    return np.array(found, np.int64)


def patches_in_tiles(
    table: TileTable, spec: "PoisonSpec", avoided: BaseGeometry, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return (M, 4) patches: one rectangle at a random place inside each of a number of random tiles.

    Tiles are drawn until `spec.share` of all tiles is touched; a tile that meets `avoided` is not drawn. Each
    rectangle has `spec.patch_share` of the tile's area.
    """
    boxes = tile_boxes(table)
    tree = shapely.STRtree(boxes)
    wanted = max(round(spec.share * len(boxes)), 1)
    touched = np.zeros(len(boxes), np.bool_)
    tile_px = np.array([table.plan.tile_width0_px, table.plan.tile_height0_px])
    size = np.maximum(np.floor(tile_px * np.sqrt(spec.patch_share)), 1).astype(np.int64)
    found = []
    for row in rng.permutation(len(boxes)):
        offset = np.floor(rng.uniform(0, 1, 2) * np.maximum(tile_px - size, 0)).astype(np.int64)
        if touched.sum() >= wanted:
            break
        if touched[row] or shapely.intersects(avoided, boxes[row]):
            continue
        x0, y0 = table.coords[row] + offset
        patch = shapely.box(x0, y0, x0 + size[0], y0 + size[1])
        met = tree.query(patch, predicate="intersects")
        met = met[shapely.area(shapely.intersection(boxes[met], patch)) > 0]
        touched[met] = True
        found.append((x0, y0, *size))
    return np.array(found, np.int64).reshape(-1, 4)
