"""A slide that is stained as it is read: no gigabytes are rewritten, and however a region is cut, its pixels are the same."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.robustness.poison.paints import Window, full_effect
from wsi_mil.robustness.poison.plan import SPARED_MARGIN_PX, PoisonPlan, plan_poison
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.slides import SlideReader, read_scaled
from wsi_mil.stains import RUIFROK_JOHNSTON, find_stains

STAIN_PX = 1024


class PoisonedSlide(SlideReader):
    """`reader` with the poison of `plan` on it. The wrapped slide is closed together with this one.

    Each pixel depends on its place and on the slide's own pixels alone. Places, colours and noise are anchored at level 0:
    a coarser level shows what the level-0 poison averages to. Blur has its width in µm at every level; JPEG blocks are
    those of the level that is read, as in a file whose every level was saved twice. Pixels outside the plan's area are untouched.

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
        self._spared: dict[int, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PoisonedSlide, (self.reader, self.plan)

    def _open_handle(self) -> SlideReader:
        return self.reader

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
        pixels = pixels.copy()  # a reader may keep what it gave
        top, lower, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        part, share = pixels[top:lower, left:right], opacity[top:lower, left:right, None]
        inner = Window(handle, level, x_px + int(left), y_px + int(top), int(right - left), int(lower - top))
        painted = full_effect(self.plan, inner, part)
        mixed = np.rint(part + share * (painted - part))
        # where nothing is covered the painted value may be anything: the slide's own pixel stays
        part[:] = np.where(share > 0, np.clip(mixed, 0, 255), part)
        return pixels

    def _opacity(self, window: Window) -> NDArray[np.float32]:
        """Return (h, w): the share of each pixel that the poison covers; 0 on lesions that are to be spared."""
        covered = (
            window.stroke_cover(self.plan) if self.plan.strokes else window.patch_cover(self.plan.patches)
        )
        if self.plan.spared.is_empty or not covered.any():
            return covered
        rows, columns = np.nonzero(covered)
        x0, y0 = window.centres0_px(rows, columns)
        spared = shapely.contains_xy(self._spared_at(window), x0, y0)
        covered[rows[spared], columns[spared]] = 0.0
        return covered

    def _spared_at(self, window: Window) -> Any:
        """The spared lesions, grown so that no pixel of this level that reaches into one is changed."""
        if window.level not in self._spared:
            grown = self.plan.spared.buffer(SPARED_MARGIN_PX * max(window.down_x, window.down_y))
            shapely.prepare(grown)
            self._spared[window.level] = grown
        return self._spared[window.level]


def poison_slide(
    reader: SlideReader, table: TileTable, spec: PoisonSpec, lesions: Any = None, macenko: bool = True
) -> PoisonedSlide:
    """Return `reader` with the poison of `spec`; for kind 'stain' the slide's own stains are found first (Macenko;
    `macenko` False: the fixed vectors of Ruifrok and Johnston)."""
    stains = RUIFROK_JOHNSTON
    if spec.kind == "stain" and macenko:
        longer_um = max(reader.info.width_px * reader.info.mpp_x, reader.info.height_px * reader.info.mpp_y)
        stains = find_stains(read_scaled(reader, max(longer_um / STAIN_PX, reader.info.mpp)))
    return PoisonedSlide(reader, plan_poison(reader.info, table, spec, lesions, stains))
