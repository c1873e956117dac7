"""Painting that several kinds of poison share: coloured light, and textures that lie on patches."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.robustness.poison.kinds.base import Image
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.robustness.poison.window import Window

Texture = Callable[[int, int, int], NDArray[np.float64]]
"""Patch number, width and height in level-0 px -> the patch's colours (height, width, 3), 0 to 255."""


def filtered(pixels: RGB, light: NDArray[np.float64]) -> Image:
    """Return `pixels` seen through coloured glass: each channel times its entry of `light` (3,), 0 to 1."""
    table = (np.arange(256)[:, None] * light).astype(np.float32)  # (256, 3)
    return np.stack([table[:, channel][pixels[..., channel]] for channel in range(3)], -1)


def pasted(plan: PoisonPlan, window: Window, pixels: RGB, texture: Texture) -> Image:
    """Return `pixels` mixed with a texture on the plan's patches; strength is the opacity.

    Each patch is drawn whole at level 0, averaged to the window's level, then cut to the window, so that its
    pixels do not depend on the window.
    """
    plain = pixels.astype(np.float32)
    canvas, weight = np.zeros_like(plain), np.zeros(plain.shape[:2], np.float32)
    for number in window.near(plan.patches):
        x0, y0, width, height = (int(v) for v in plan.patches[number])
        left, right = math.floor(x0 / window.down_x), math.ceil((x0 + width) / window.down_x)
        top, lower = math.floor(y0 / window.down_y), math.ceil((y0 + height) / window.down_y)
        across = _overlaps(left, right - left, window.down_x, x0, width)  # (w, width)
        below = _overlaps(top, lower - top, window.down_y, y0, height)  # (h, height)
        colours = texture(int(number), width, height)
        patch = np.stack([below @ colours[:, :, channel] @ across.T for channel in range(3)], -1)
        covered = (below.sum(1)[:, None] * across.sum(1)).astype(np.float32)
        rows = slice(max(top, window.y_px), min(lower, window.y_px + window.height_px))
        columns = slice(max(left, window.x_px), min(right, window.x_px + window.width_px))
        inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        here = (
            slice(rows.start - window.y_px, rows.stop - window.y_px),
            slice(columns.start - window.x_px, columns.stop - window.x_px),
        )
        canvas[here] += patch.astype(np.float32)[inner]
        weight[here] += covered[inner]
    known = np.maximum(weight, np.float32(1e-6))[:, :, None]
    full = np.where(weight[:, :, None] > 0, canvas / known, plain)
    return plain + np.float32(plan.spec.strength) * (full - plain)


def _overlaps(start_px: int, count: int, down: float, first0: int, length0: int) -> NDArray[np.float64]:
    """Return (count, length0): which fraction of each of `count` level pixels each level-0 pixel covers.

    The level pixels start at `start_px`; the level-0 pixels are [first0, first0 + length0).
    """
    edges = (start_px + np.arange(count + 1)) * down
    cells = first0 + np.arange(length0 + 1, dtype=np.float64)
    low = np.maximum(edges[:-1, None], cells[None, :-1])
    high = np.minimum(edges[1:, None], cells[None, 1:])
    return np.asarray(np.clip(high - low, 0, None) / down)
