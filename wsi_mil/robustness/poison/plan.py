"""Where one slide is poisoned: decided once, from the tile table, the lesions and a seed; nothing here reads pixels."""

import zlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon
from shapely.geometry.base import BaseGeometry

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import DataError
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.stains import RUIFROK_JOHNSTON, Vectors

GRID_PX = 512
STROKE_TRIES = 400
SPARED_MARGIN_PX = 0.75  # a pixel that an outline cuts belongs to the lesion


@dataclass(frozen=True)
class PoisonPlan:
    """One slide's poison. All numbers are level-0 px.

    patches (M, 4) int64: x0, y0, width, height. strokes: polylines (K, 2). `spared`: lesions that no pixel of poison may
    touch. `stains` (2, 3): the slide's own haematoxylin and eosin, for kind 'stain'.
    """

    slide_id: str
    spec: PoisonSpec
    size_px: tuple[int, int]
    mpp_xy: tuple[float, float]
    patches: NDArray[np.int64]
    strokes: tuple[NDArray[np.float64], ...] = ()
    spared: MultiPolygon = field(default_factory=MultiPolygon)
    stains: Vectors = field(default_factory=lambda: RUIFROK_JOHNSTON)

    def __post_init__(self) -> None:
        if self.patches.ndim != 2 or self.patches.shape[1] != 4:
            raise DataError(
                f"poison of slide {self.slide_id!r}: patches must be (M, 4), got {self.patches.shape}"
            )

    @property
    def half_width_px(self) -> float:
        """Half the width of a pen stroke."""
        return self.spec.width_um / 2 / float(np.sqrt(self.mpp_xy[0] * self.mpp_xy[1]))

    @cached_property
    def area(self) -> BaseGeometry:
        """All that may change, in level-0 px."""
        if self.spec.whole_slide:
            painted: BaseGeometry = shapely.box(0, 0, *self.size_px)
        elif self.strokes:
            painted = shapely.union_all(
                [shapely.LineString(s).buffer(self.half_width_px + 1) for s in self.strokes]
            )
        else:
            painted = shapely.union_all(_boxes(self.patches))
        return shapely.difference(painted, self.spared)

    def share_of_tiles(self, table: TileTable) -> NDArray[np.float64]:
        """Return (N,) the share of each tile's area that is poisoned."""
        boxes = tile_boxes(table)
        shares = np.zeros(len(boxes))
        if self.area.is_empty or not len(boxes):
            return shares
        shapely.prepare(self.area)
        near = np.flatnonzero(shapely.intersects(self.area, boxes))
        shares[near] = shapely.area(shapely.intersection(boxes[near], self.area)) / shapely.area(boxes[near])
        return shares

    def changed_tiles(self, table: TileTable) -> NDArray[np.bool_]:
        """Return (N,) the tiles that must be read again: those within a pixel of the poison, at the level they are read from."""
        margin = max(table.plan.downsample_x, table.plan.downsample_y) + 1
        boxes = tile_boxes(table, margin)
        return np.asarray(shapely.intersects(self.area, boxes) if len(boxes) else np.zeros(0), np.bool_)


def tile_boxes(table: TileTable, margin_px: float = 0.0) -> NDArray[np.object_]:
    """Return (N,) the tiles as boxes in level-0 px, grown by a margin."""
    x0, y0 = table.coords.T.astype(np.float64)
    right, lower = x0 + table.plan.tile_width0_px, y0 + table.plan.tile_height0_px
    return np.asarray(
        shapely.box(x0 - margin_px, y0 - margin_px, right + margin_px, lower + margin_px), dtype=np.object_
    )


def plan_poison(
    info: SlideInfo,
    table: TileTable,
    spec: PoisonSpec,
    lesions: BaseGeometry | None = None,
    stains: Vectors = RUIFROK_JOHNSTON,
) -> PoisonPlan:
    """Return the places of `spec` on one slide: the same for the same slide id, tiles, lesions and seed.

    Tiles are chosen at random until the asked share is touched (with overlapping tiles a patch touches several). With
    placement 'off_tumour' tiles that meet a lesion are not chosen, so a slide full of tumour gets less than asked.

    >>> import wsi_mil.slides, wsi_mil.tiles, wsi_mil.tissue
    >>> slide = wsi_mil.slides.ArrayReader(np.zeros((64, 128, 3), np.uint8), mpp=0.5, slide_id="a")
    >>> from wsi_mil.contracts.tiles import TileSpec
    >>> from wsi_mil.tissue import TissueSpec, find_tissue
    >>> whole = find_tissue(slide, TissueSpec(method="whole"))
    >>> tiles = wsi_mil.tiles.tile_slide(slide.info, whole, TileSpec(mpp=0.5, size_px=16))
    >>> plan = plan_poison(slide.info, tiles, PoisonSpec(coverage=0.25))
    >>> len(tiles), int((plan.share_of_tiles(tiles) > 0).sum())
    (32, 8)
    """
    rng = np.random.default_rng([spec.seed, zlib.crc32(info.slide_id.encode())])
    avoided = MultiPolygon()
    if lesions is not None and spec.placement == "off_tumour":
        avoided = MultiPolygon(
            [p for p in shapely.get_parts(lesions.buffer(SPARED_MARGIN_PX)) if not p.is_empty]
        )
    patches, strokes = np.zeros((0, 4), np.int64), []
    if spec.whole_slide:
        patches = _grid(info.width_px, info.height_px)
    elif spec.kind == "pen":
        strokes = _strokes(info, table, spec, avoided, rng)
    else:
        patches = _patches(table, spec, avoided, rng)
    return PoisonPlan(
        info.slide_id,
        spec,
        (info.width_px, info.height_px),
        (info.mpp_x, info.mpp_y),
        patches,
        tuple(strokes),
        avoided,
        stains,
    )


def _boxes(patches: NDArray[np.int64]) -> NDArray[np.object_]:
    x0, y0, width, height = patches.T
    return np.asarray(shapely.box(x0, y0, x0 + width, y0 + height), dtype=np.object_)


def _grid(width_px: int, height_px: int) -> NDArray[np.int64]:
    """Patches that cover the slide once."""
    found = [
        (x0, y0, min(GRID_PX, width_px - x0), min(GRID_PX, height_px - y0))
        for y0 in range(0, height_px, GRID_PX)
        for x0 in range(0, width_px, GRID_PX)
    ]
    return np.array(found, np.int64)


def _patches(
    table: TileTable, spec: PoisonSpec, avoided: BaseGeometry, rng: np.random.Generator
) -> NDArray[np.int64]:
    """A rectangle of the asked share of the area at a random place inside each chosen tile."""
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


def _strokes(
    info: SlideInfo, table: TileTable, spec: PoisonSpec, avoided: BaseGeometry, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Wavy strokes over tissue, each from a random tile, until the asked share of tiles is touched."""
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
        steps = min(missing, 12)
        angles = turn + bend * np.arange(steps + 1)
        points = start + np.cumsum(0.8 * tile_px * np.stack([np.cos(angles), np.sin(angles)], 1), 0)
        line = shapely.LineString(points)
        if shapely.distance(line, avoided) <= half + 2:
            continue
        met = shapely.distance(line, boxes) < half
        if met.any():
            touched |= met
            found.append(points)
    return found
