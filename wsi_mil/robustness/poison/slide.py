"""A slide with poison on it. Pixels are painted when a region is read, so no file is written."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.robustness.poison.kinds import load_poison
from wsi_mil.robustness.poison.plan import SPARED_MARGIN_PX, PoisonPlan, plan_poison
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.robustness.poison.window import Window
from wsi_mil.slides import SlideReader, read_scaled
from wsi_mil.stains import RUIFROK_JOHNSTON, find_stains

STAIN_PX = 1024


class PoisonedSlide(SlideReader):
    """`reader` with the poison of `plan` on it. Closing this reader also closes `reader`.

    A pixel depends only on its place and on the slide's own pixels, not on the region that is read. Places,
    colours and noise are defined at level 0; a coarser level shows their average. A blur has the same width
    in µm at every level. JPEG blocks are those of the level that is read. Pixels outside `plan.area` do not
    change.

    >>> from wsi_mil.slides import ArrayReader
    >>> plain = ArrayReader(np.full((40, 60, 3), 200, np.uint8), mpp=0.5)
    >>> plan = PoisonPlan("array", PoisonSpec(), (60, 40), (0.5, 0.5), np.array([[10, 5, 20, 20]]))
    >>> stained = PoisonedSlide(plain, plan).read_region(0, 0, 0, 60, 40)
    >>> changed = (stained != 200).any(2)
    >>> changed[5:25, 10:30].mean() > 0.99, changed.sum() <= 400
    (np.True_, np.True_)
    """

    def __init__(self, reader: SlideReader, plan: PoisonPlan) -> None:
        super().__init__()
        self.reader, self.plan = reader, plan
        self.info = reader.info
        self._spared: dict[int, BaseGeometry] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PoisonedSlide, (self.reader, self.plan)

    def _open_handle(self) -> SlideReader:
        return self.reader

    def check_unchanged(self) -> None:
        self.reader.check_unchanged()

    def close(self) -> None:
        super().close()
        self.reader.close()

    def _read(
        self, handle: SlideReader, level: int, x_px: int, y_px: int, width_px: int, height_px: int
    ) -> RGB:
        window = Window(handle, level, x_px, y_px, width_px, height_px)
        pixels = window.read()
        opacity = self._opacity(window)
        rows, columns = np.flatnonzero(opacity.any(1)), np.flatnonzero(opacity.any(0))
        if not len(rows):
            return pixels
        pixels = pixels.copy()  # the reader may still hold the array that it returned
        top, lower, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        part, share = pixels[top:lower, left:right], opacity[top:lower, left:right, None]
        inner = Window(handle, level, x_px + int(left), y_px + int(top), int(right - left), int(lower - top))
        painted = load_poison(self.plan.spec.kind).paint(self.plan, inner, part)
        mixed = np.rint(part + share * (painted - part))
        # the painted value of an uncovered pixel is arbitrary, so the slide's own pixel is kept
        part[:] = np.where(share > 0, np.clip(mixed, 0, 255), part)
        return pixels

    def _opacity(self, window: Window) -> NDArray[np.float32]:
        """Return (h, w), 0 to 1: how far the poison covers each pixel; 0 on spared lesions."""
        covered = window.cover(self.plan)
        if self.plan.spared.is_empty or not covered.any():
            return covered
        rows, columns = np.nonzero(covered)
        x0, y0 = window.centres0_px(rows, columns)
        spared = shapely.contains_xy(self._spared_at(window), x0, y0)
        covered[rows[spared], columns[spared]] = 0.0
        return covered

    def _spared_at(self, window: Window) -> BaseGeometry:
        """Return the spared lesions, with a margin so that no pixel of this level that overlaps one
        changes.
        """
        if window.level not in self._spared:
            grown = self.plan.spared.buffer(SPARED_MARGIN_PX * max(window.down_x, window.down_y))
            shapely.prepare(grown)
            self._spared[window.level] = grown
        return self._spared[window.level]


def poison_slide(
    reader: SlideReader,
    table: TileTable,
    spec: PoisonSpec,
    lesions: BaseGeometry | None = None,
    macenko: bool = True,
) -> PoisonedSlide:
    """Return `reader` with the poison of `spec` on it.

    lesions: in level-0 px; spared if `spec.placement` is 'off_tumour'. Kinds that change the stain first find
    the slide's own stain vectors (Macenko 2009); with `macenko` False they use those of Ruifrok and Johnston
    2001.
    """
    stains = RUIFROK_JOHNSTON
    if load_poison(spec.kind).needs_stains and macenko:
        longer_um = max(reader.info.width_px * reader.info.mpp_x, reader.info.height_px * reader.info.mpp_y)
        stains = find_stains(read_scaled(reader, max(longer_um / STAIN_PX, reader.info.mpp)))
    return PoisonedSlide(reader, plan_poison(reader.info, table, spec, lesions, stains))
