"""Poison of kind `pen`: strokes of transparent ink over the tissue."""

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.robustness.poison.kinds.base import Image, Poison
from wsi_mil.robustness.poison.painting import filtered
from wsi_mil.robustness.poison.places import Places, tile_boxes
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.robustness.poison.window import Window

STROKE_TRIES = 400
TILES_A_STROKE = 12


class Pen(Poison):
    """Ink of `poison.colour`, `poison.width_um` wide. Strength is the fraction of light that the
    ink filters.
    """

    def places(
        self,
        info: SlideInfo,
        table: TileTable,
        spec: PoisonSpec,
        avoided: BaseGeometry,
        rng: np.random.Generator,
    ) -> Places:
        return Places(strokes=tuple(strokes(info, table, spec, avoided, rng)))

    def paint(self, plan: PoisonPlan, window: Window, pixels: RGB) -> Image:
        strength = plan.spec.strength
        return filtered(pixels, 1 - strength + strength * np.array(plan.spec.colour) / 255)


def strokes(
    info: SlideInfo, table: TileTable, spec: PoisonSpec, avoided: BaseGeometry, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Return curved strokes, polylines (K, 2) in level-0 px, until the asked fraction of tiles is touched.

    Each stroke starts at a random tile. A stroke that would touch `avoided` is not drawn.
    """
    boxes = tile_boxes(table)
    half = spec.width_um / 2 / info.mpp
    wanted = max(round(spec.share * len(boxes)), 1)
    tile_px = max(table.plan.tile_width0_px, table.plan.tile_height0_px)
    touched = np.zeros(len(boxes), np.bool_)
    found: list[NDArray[np.float64]] = []
    for _ in range(STROKE_TRIES if len(boxes) else 0):
        missing = wanted - int(touched.sum())
        if missing <= 0:
            break
        start = table.coords[rng.integers(len(boxes))] + tile_px / 2
        turn, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.15, 0.15)
        angles = turn + bend * np.arange(min(missing, TILES_A_STROKE) + 1)
        points = start + np.cumsum(0.8 * tile_px * np.stack([np.cos(angles), np.sin(angles)], 1), 0)
        line = shapely.LineString(points)
        if shapely.distance(line, avoided) <= half + 2:
            continue
        met = shapely.distance(line, boxes) < half
        if met.any():
            touched |= met
            found.append(points)
    return found


POISON = Pen()
