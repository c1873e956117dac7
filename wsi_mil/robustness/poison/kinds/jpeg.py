"""Poison of kind `jpeg`: patches that were compressed once more, at low quality and on another block grid."""

import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.io.images import decode_image, encode_jpeg
from wsi_mil.robustness.poison.kinds.base import Image, Poison
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.robustness.poison.window import Window

BLOCK_PX = 8
BLOCK_OFFSET_PX = (3, 5)  # so that the blocks do not coincide with those of the slide's own file
BEST_QUALITY, QUALITY_RANGE = 95, 90


class Jpeg(Poison):
    """JPEG of quality 95 near strength 0 down to quality 5 at strength 1."""

    def paint(self, plan: PoisonPlan, window: Window, pixels: RGB) -> Image:
        quality = round(BEST_QUALITY - QUALITY_RANGE * plan.spec.strength)
        return compressed(window, quality).astype(np.float32)


def compressed(window: Window, quality: int) -> RGB:
    """Return (h, w, 3): the window after compression.

    Whole blocks are read and compressed without colour subsampling, so no block depends on another one.
    """
    left, top = (window.x_px - BLOCK_OFFSET_PX[0]) % BLOCK_PX, (window.y_px - BLOCK_OFFSET_PX[1]) % BLOCK_PX
    right, lower = -(left + window.width_px) % BLOCK_PX, -(top + window.height_px) % BLOCK_PX
    encoded = encode_jpeg(window.read(left, top, right, lower), quality, full_colour=True)
    return decode_image(encoded)[top : top + window.height_px, left : left + window.width_px]


POISON = Jpeg()
