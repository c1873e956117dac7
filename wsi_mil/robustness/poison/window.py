"""A rectangle of one level of a slide that is to be painted, and which fraction of its pixels
poison covers.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.slides import SlideReader

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A rectangle of one level of `reader`, in that level's px."""

    reader: SlideReader
    level: int
    x_px: int
    y_px: int
    width_px: int
    height_px: int

    @property
    def down_x(self) -> float:
        """Level-0 px per pixel of this level, horizontally."""
        return self.reader.info.width_px / self.reader.info.level_sizes_px[self.level][0]

    @property
    def down_y(self) -> float:
        """Level-0 px per pixel of this level, vertically."""
        return self.reader.info.height_px / self.reader.info.level_sizes_px[self.level][1]

    def read(self, left: int = 0, top: int = 0, right: int = 0, lower: int = 0) -> RGB:
        """Return the pixels of the window with a margin of so many px on each side; white outside
        the slide.
        """
        x_px, y_px = self.x_px - left, self.y_px - top
        width, height = self.width_px + left + right, self.height_px + top + lower
        x0, y0 = round(x_px * self.down_x), round(y_px * self.down_y)
        return self.reader.read_region(x0, y0, self.level, width, height)

    def centres0_px(
        self, rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return level-0 x and y of the centres of pixels (row, column) of this window."""
        x0, y0 = (self.x_px + columns + 0.5) * self.down_x, (self.y_px + rows + 0.5) * self.down_y
        return np.asarray(x0, np.float64), np.asarray(y0, np.float64)

    def near(self, patches: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the row numbers of the patches (M, 4) that overlap the window."""
        x0, y0, width, height = patches.T
        right, lower = (self.x_px + self.width_px) * self.down_x, (self.y_px + self.height_px) * self.down_y
        inside = (x0 < right) & (x0 + width > self.x_px * self.down_x)
        return np.flatnonzero(inside & (y0 < lower) & (y0 + height > self.y_px * self.down_y))

    def cover(self, plan: PoisonPlan) -> Image:
        """Return (h, w), 0 to 1: which fraction of each pixel the plan's patches and strokes cover."""
        covered = self.patch_cover(plan.patches)
        return np.maximum(covered, self.stroke_cover(plan)) if plan.strokes else covered

    def patch_cover(self, patches: NDArray[np.int64]) -> Image:
        """Return (h, w), 0 to 1: which fraction of each pixel lies on patches (M, 4). Patches may share edges
        only.
        """
        covered = np.zeros((self.height_px, self.width_px), np.float32)
        for number in self.near(patches):
            x0, y0, width, height = patches[number]
            across = _fractions(self.x_px, self.width_px, self.down_x, x0, width)
            down = _fractions(self.y_px, self.height_px, self.down_y, y0, height)
            rows, columns = np.flatnonzero(down), np.flatnonzero(across)
            here = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            covered[here] += down[here[0], None] * across[here[1]]
        return np.minimum(covered, 1.0)

    def stroke_cover(self, plan: PoisonPlan) -> Image:
        """Return (h, w), 0 to 1: how far each pixel lies under a stroke; the edge is one pixel wide."""
        covered = np.zeros((self.height_px, self.width_px), np.float32)
        for stroke in plan.strokes:
            for start, end in pairwise(stroke):
                self._add_segment(covered, start, end, plan.half_width_px)
        return covered

    def _add_segment(
        self, covered: Image, start: NDArray[np.float64], end: NDArray[np.float64], half_px: float
    ) -> None:
        """Add one straight piece of a stroke to `covered` (h, w), in place."""
        scale, down = (self.down_x + self.down_y) / 2, np.array([self.down_x, self.down_y])
        origin = [self.x_px, self.y_px]
        low = np.minimum(start, end) - half_px - 2 * scale
        high = np.maximum(start, end) + half_px + 2 * scale
        left, top = (max(int(v), 0) for v in np.floor(low / down) - origin)
        right, lower = (int(v) for v in np.ceil(high / down) - origin)
        rows = np.arange(top, min(lower, self.height_px))
        columns = np.arange(left, min(right, self.width_px))
        if not len(rows) or not len(columns):
            return
        x, y = self.centres0_px(rows[:, None], columns)
        (ax, ay), (bx, by) = start, end
        squared_length = (bx - ax) ** 2 + (by - ay) ** 2
        along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / squared_length, 0, 1)
        distance = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
        part = covered[top : top + len(rows), left : left + len(columns)]
        np.maximum(part, np.clip((half_px - distance) / scale + 0.5, 0, 1), out=part, casting="same_kind")


def _fractions(start_px: int, count: int, down: float, first0: int, length0: int) -> NDArray[np.float64]:
    """Return (count,): which fraction of each level pixel lies in level-0 [first0, first0 + length0).

    The level pixels start at `start_px` and are `down` level-0 px wide.
    """
    edges = (start_px + np.arange(count + 1)) * down
    low, high = np.maximum(edges[:-1], first0), np.minimum(edges[1:], first0 + length0)
    return np.asarray(np.clip(high - low, 0, None) / down)
