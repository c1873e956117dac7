"""The places of poison on one slide, decided once from its tile table, its lesions and a seed."""

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
from wsi_mil.randomness import named_generator
from wsi_mil.robustness.poison.kinds import load_poison
from wsi_mil.robustness.poison.places import Places, patch_boxes, tile_boxes, whole_slide_patches
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.stains import RUIFROK_JOHNSTON, Vectors

SPARED_MARGIN_PX = 0.75  # a pixel that an outline cuts belongs to the lesion


@dataclass(frozen=True)
class PoisonPlan:
    """The poison of one slide. All numbers are level-0 px.

    patches (M, 4) int64: x0, y0, width, height. strokes: polylines (K, 2). spared: lesions on which no pixel
    may change. stains (2, 3): the slide's own haematoxylin and eosin, for kinds that change the stain.
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
        """The region in which pixels may change, without the spared lesions."""
        if self.spec.whole_slide:
            painted: BaseGeometry = shapely.box(0, 0, *self.size_px)
        else:
            inked = [shapely.LineString(s).buffer(self.half_width_px + 1) for s in self.strokes]
            painted = shapely.union_all([*patch_boxes(self.patches), *inked])
        return shapely.difference(painted, self.spared)

    def share_of_tiles(self, table: TileTable) -> NDArray[np.float64]:
        """Return (N,) which fraction of each tile's area is poisoned."""
        boxes = tile_boxes(table)
        shares = np.zeros(len(boxes))
        if self.area.is_empty or not len(boxes):
            return shares
        shapely.prepare(self.area)
        near = np.flatnonzero(shapely.intersects(self.area, boxes))
        shares[near] = shapely.area(shapely.intersection(boxes[near], self.area)) / shapely.area(boxes[near])
        return shares

    def changed_tiles(self, table: TileTable) -> NDArray[np.bool_]:
        """Return (N,) the tiles to read and encode again: those within one pixel, at their level, of the
        poison.
        """
        margin = max(table.plan.downsample_x, table.plan.downsample_y) + 1
        boxes = tile_boxes(table, margin)
        return np.asarray(shapely.intersects(self.area, boxes) if len(boxes) else np.zeros(0), np.bool_)


def plan_poison(
    info: SlideInfo,
    table: TileTable,
    spec: PoisonSpec,
    lesions: BaseGeometry | None = None,
    stains: Vectors = RUIFROK_JOHNSTON,
) -> PoisonPlan:
    """Return where `spec` lies on one slide; equal slide id, tiles, lesions and seed give an equal plan.

    Random tiles are chosen until the asked fraction is touched; where tiles overlap, one patch touches
    several. With placement 'off_tumour' no chosen tile meets a lesion, so a slide full of tumour gets less
    than asked.

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
    rng = named_generator(spec.seed, info.slide_id)
    avoided = MultiPolygon()
    if lesions is not None and spec.placement == "off_tumour":
        avoided = MultiPolygon(
            [p for p in shapely.get_parts(lesions.buffer(SPARED_MARGIN_PX)) if not p.is_empty]
        )
    if spec.whole_slide:
        places = Places(whole_slide_patches(info.width_px, info.height_px))
    else:
        places = load_poison(spec.kind).places(info, table, spec, avoided, rng)
    return PoisonPlan(
        info.slide_id,
        spec,
        (info.width_px, info.height_px),
        (info.mpp_x, info.mpp_y),
        places.patches,
        places.strokes,
        avoided,
        stains,
    )
