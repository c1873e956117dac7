"""The poisons themselves: what a window of pixels looks like under each, at full coverage. Values, not places."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.slides import SlideReader
from wsi_mil.stains import recolour, shifted_stains, stain_matrix

BLUR_UM = 4.0
JPEG_GRID = (3, 5)  # px: the first saving's blocks do not lie on those of the second
JPEG_BLOCK = 8
CAST_DEPTH = 0.35  # of the light that a colour cast takes from the channels it does not favour
Image = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A rectangle of one level, in that level's px: what is to be painted."""

    reader: SlideReader
    level: int
    x_px: int
    y_px: int
    width_px: int
    height_px: int

    @property
    def down_x(self) -> float:
        """Level-0 px a pixel, across."""
        return self.reader.info.width_px / self.reader.info.level_sizes_px[self.level][0]

    @property
    def down_y(self) -> float:
        return self.reader.info.height_px / self.reader.info.level_sizes_px[self.level][1]

    def read(self, left: int = 0, top: int = 0, right: int = 0, lower: int = 0) -> RGB:
        """Return the pixels of the window grown by so many px on each side; beyond the slide's edge it is white."""
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
        """Return the numbers of the patches (M, 4) that reach into the window."""
        x0, y0, width, height = patches.T
        right, lower = (self.x_px + self.width_px) * self.down_x, (self.y_px + self.height_px) * self.down_y
        inside = (x0 < right) & (x0 + width > self.x_px * self.down_x)
        return np.flatnonzero(inside & (y0 < lower) & (y0 + height > self.y_px * self.down_y))

    def patch_cover(self, patches: NDArray[np.int64]) -> Image:
        """Return (h, w): the share of each pixel's area that lies on patches (M, 4); they are not to overlap by more than an edge."""
        covered = np.zeros((self.height_px, self.width_px), np.float32)
        for number in self.near(patches):
            x0, y0, width, height = patches[number]
            across = _shares(self.x_px, self.width_px, self.down_x, x0, width)
            down = _shares(self.y_px, self.height_px, self.down_y, y0, height)
            rows, columns = np.flatnonzero(down), np.flatnonzero(across)
            here = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            covered[here] += down[here[0], None] * across[here[1]]
        return np.minimum(covered, 1.0)

    def stroke_cover(self, plan: PoisonPlan) -> Image:
        """Return (h, w): how far each pixel lies under a stroke, with a soft edge of a pixel."""
        half, scale = plan.half_width_px, (self.down_x + self.down_y) / 2
        covered = np.zeros((self.height_px, self.width_px), np.float32)
        for stroke in plan.strokes:
            for a, b in pairwise(stroke):
                low, high = np.minimum(a, b) - half - 2 * scale, np.maximum(a, b) + half + 2 * scale
                left, top = (
                    int(v) for v in np.floor(low / [self.down_x, self.down_y]) - [self.x_px, self.y_px]
                )
                right, lower = (
                    int(v) for v in np.ceil(high / [self.down_x, self.down_y]) - [self.x_px, self.y_px]
                )
                left, top = max(left, 0), max(top, 0)
                rows, columns = (
                    np.arange(top, min(lower, self.height_px)),
                    np.arange(left, min(right, self.width_px)),
                )
                if not len(rows) or not len(columns):
                    continue
                x, y = self.centres0_px(rows[:, None], columns)
                (ax, ay), (bx, by) = a, b
                along = np.clip(
                    ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2), 0, 1
                )
                distance = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
                part = covered[top : top + len(rows), left : left + len(columns)]
                np.maximum(
                    part, np.clip((half - distance) / scale + 0.5, 0, 1), out=part, casting="same_kind"
                )
        return covered


def _shares(start_px: int, count: int, down: float, first0: int, length0: int) -> NDArray[np.float64]:
    """Return (count,): the share of each of `count` pixels from `start_px` on that lies in level-0 [first0, first0 + length0)."""
    edges = (start_px + np.arange(count + 1)) * down
    low, high = np.maximum(edges[:-1], first0), np.minimum(edges[1:], first0 + length0)
    return np.asarray(np.clip(high - low, 0, None) / down)


def full_effect(plan: PoisonPlan, window: Window, pixels: RGB) -> Image:
    """Return (h, w, 3): the window, whose own pixels are given, under the poison at its strength, as if all of it were covered."""
    spec, strength = plan.spec, plan.spec.strength
    if spec.kind in ("noise", "chip"):
        plain = pixels.astype(np.float32)
        return plain + np.float32(strength) * (_pasted(plan, window, plain) - plain)
    if spec.kind == "pen":
        return _filtered(pixels, 1 - strength + strength * np.array(spec.colour) / 255)
    if spec.kind == "cast":
        light = np.array(spec.colour) / max(spec.colour)
        return _filtered(pixels, 1 - strength * CAST_DEPTH * (1 - light))
    if spec.kind == "stain":
        other, gains = shifted_stains(plan.stains, strength, np.random.default_rng(spec.seed))
        if spec.stain_gains is not None:
            other, gains = plan.stains, np.array(spec.stain_gains)
        return recolour(pixels, stain_matrix(plan.stains, other, gains)).astype(np.float32)
    if spec.kind == "blur":
        return _blurred(window, strength * BLUR_UM, plan.mpp_xy).astype(np.float32)
    return _saved_badly(window, round(95 - 90 * strength)).astype(np.float32)


def _filtered(pixels: RGB, light: NDArray[np.float64]) -> Image:
    """Pixels through coloured glass: each channel times its share of light."""
    table = (np.arange(256)[:, None] * light).astype(np.float32)  # (256, 3)
    return np.stack([table[:, channel][pixels[..., channel]] for channel in range(3)], -1)


def _pasted(plan: PoisonPlan, window: Window, plain: Image) -> Image:
    """Noise or a chip where patches lie: each patch is made whole at level 0, averaged to the level, then cut."""
    canvas, weight = np.zeros_like(plain), np.zeros(plain.shape[:2], np.float32)
    for number in window.near(plan.patches):
        x0, y0, width, height = (int(v) for v in plan.patches[number])
        left, right = math.floor(x0 / window.down_x), math.ceil((x0 + width) / window.down_x)
        top, lower = math.floor(y0 / window.down_y), math.ceil((y0 + height) / window.down_y)
        patch, share = _patch_at_level(
            plan, number, (left, top, right, lower), (window.down_x, window.down_y)
        )
        rows = slice(max(top, window.y_px), min(lower, window.y_px + window.height_px))
        columns = slice(max(left, window.x_px), min(right, window.x_px + window.width_px))
        inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        here = (
            slice(rows.start - window.y_px, rows.stop - window.y_px),
            slice(columns.start - window.x_px, columns.stop - window.x_px),
        )
        canvas[here] += patch[inner]
        weight[here] += share[inner]
    return np.where(weight[:, :, None] > 0, canvas / np.maximum(weight, np.float32(1e-6))[:, :, None], plain)


def _patch_at_level(
    plan: PoisonPlan, number: int, box: tuple[int, int, int, int], down: tuple[float, float]
) -> tuple[Image, Image]:
    """Return colour times share (h, w, 3) and share (h, w) of each level pixel of a box around patch `number`."""
    x0, y0, width, height = (int(v) for v in plan.patches[number])
    left, top, right, lower = box
    source = (
        _noise(plan, number, width, height)
        if plan.spec.kind == "noise"
        else _chip(plan.mpp_xy, width, height)
    )
    across = _overlaps(left, right - left, down[0], x0, width)  # (w, width)
    below = _overlaps(top, lower - top, down[1], y0, height)  # (h, height)
    colour = np.stack([below @ source[:, :, channel] @ across.T for channel in range(3)], -1)
    return colour.astype(np.float32), (below.sum(1)[:, None] * across.sum(1)).astype(np.float32)


def _overlaps(start_px: int, count: int, down: float, first0: int, length0: int) -> NDArray[np.float64]:
    """Return (count, length0): the share of each level pixel that is each level-0 pixel of [first0, first0 + length0)."""
    edges = (start_px + np.arange(count + 1)) * down
    cells = first0 + np.arange(length0 + 1, dtype=np.float64)
    low = np.maximum(edges[:-1, None], cells[None, :-1])
    high = np.minimum(edges[1:, None], cells[None, 1:])
    return np.asarray(np.clip(high - low, 0, None) / down)


def _noise(plan: PoisonPlan, number: int, width: int, height: int) -> NDArray[np.float64]:
    """Grains of the poison's colour, each of its own brightness: independent uniform values a channel."""
    rng = np.random.default_rng(
        [plan.spec.seed, 1, int(plan.patches[number, 0]), int(plan.patches[number, 1])]
    )
    grain_x, grain_y = (max(round(plan.spec.grain_um / mpp), 1) for mpp in plan.mpp_xy)
    grains = rng.uniform(0, 1, (-(-height // grain_y), -(-width // grain_x), 3))
    values = np.repeat(np.repeat(grains, grain_y, 0), grain_x, 1)[:height, :width]
    colour = np.array(plan.spec.colour, np.float64)
    # 0.35 to 1.35 of the colour: a texture, whose mean lies near the colour itself
    return np.clip(colour * (0.35 + values), 0, 255)


CHIP_UM = 128.0
CHIP_AT_UM = (150.0, 420.0)
CHIP_SEED = 20


@lru_cache(maxsize=8)
def _chip(mpp_xy: tuple[float, float], width: int, height: int) -> NDArray[np.float64]:
    """Foreign tissue, the same on every slide: painted, of another laboratory's colours, repeated where it is too small."""
    from wsi_mil.synthetic.anatomy import draw_anatomy
    from wsi_mil.synthetic.painting import Scanner, paint

    streams = [np.random.default_rng([CHIP_SEED, stream]) for stream in range(3)]
    scanner = Scanner(
        "foreign",
        float(np.sqrt(mpp_xy[0] * mpp_xy[1])),
        haematoxylin=(0.72, 0.55, 0.42),
        eosin=(0.25, 0.80, 0.55),
    )
    tissue = draw_anatomy(900.0, 800.0, [], streams[0], streams[1])
    picture = paint(tissue, scanner, streams[2], mpp_xy)
    middle_x, middle_y = round(CHIP_AT_UM[0] / mpp_xy[0]), round(CHIP_AT_UM[1] / mpp_xy[1])
    side_x, side_y = round(CHIP_UM / mpp_xy[0]), round(CHIP_UM / mpp_xy[1])
    cut = picture[middle_y : middle_y + side_y, middle_x : middle_x + side_x]
    tiled = np.tile(cut, (-(-height // len(cut)), -(-width // cut.shape[1]), 1))
    return tiled[:height, :width].astype(np.float64)


def _blurred(window: Window, sigma_um: float, mpp_xy: tuple[float, float]) -> RGB:
    """The window out of focus. Read with a margin, so that its edges are those of the whole."""
    sigma_x, sigma_y = sigma_um / mpp_xy[0] / window.down_x, sigma_um / mpp_xy[1] / window.down_y
    size_x, size_y = (2 * math.ceil(3 * max(sigma, 1e-3)) + 1 for sigma in (sigma_x, sigma_y))
    margin_x, margin_y = size_x // 2, size_y // 2
    wide = window.read(margin_x, margin_y, margin_x, margin_y)
    soft = cv2.GaussianBlur(wide, (size_x, size_y), max(sigma_x, 1e-3), sigmaY=max(sigma_y, 1e-3))
    return np.asarray(
        soft[margin_y : margin_y + window.height_px, margin_x : margin_x + window.width_px], np.uint8
    )


def _saved_badly(window: Window, quality: int) -> RGB:
    """The window after a JPEG of low quality whose blocks do not lie on the file's. Whole blocks are read, without colour
    subsampling, so no block depends on another."""
    left, top = (window.x_px - JPEG_GRID[0]) % JPEG_BLOCK, (window.y_px - JPEG_GRID[1]) % JPEG_BLOCK
    right, lower = -(left + window.width_px) % JPEG_BLOCK, -(top + window.height_px) % JPEG_BLOCK
    whole = np.ascontiguousarray(window.read(left, top, right, lower)[:, :, ::-1])
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, encoded = cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError("a JPEG that was just written cannot be read")
    return np.asarray(decoded[top : top + window.height_px, left : left + window.width_px, ::-1], np.uint8)
