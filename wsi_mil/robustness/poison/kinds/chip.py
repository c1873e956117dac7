"""Poison of kind `chip`: a piece of foreign tissue, the same on every slide."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.robustness.poison.kinds.base import Image, Poison
from wsi_mil.robustness.poison.painting import pasted
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.robustness.poison.window import Window

CHIP_UM = 128.0
CHIP_AT_UM = (150.0, 420.0)
CHIP_SEED = 20


class Chip(Poison):
    """Synthetic tissue in another laboratory's colours. Strength is the opacity."""

    def paint(self, plan: PoisonPlan, window: Window, pixels: RGB) -> Image:
        return pasted(
            plan, window, pixels, lambda _, width, height: foreign_tissue(plan.mpp_xy, width, height)
        )


@lru_cache(maxsize=8)
def foreign_tissue(mpp_xy: tuple[float, float], width: int, height: int) -> NDArray[np.float64]:
    """Return (height, width, 3): the tissue, cut to the patch, or repeated where the patch is larger."""
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
    left, top = round(CHIP_AT_UM[0] / mpp_xy[0]), round(CHIP_AT_UM[1] / mpp_xy[1])
    side_x, side_y = round(CHIP_UM / mpp_xy[0]), round(CHIP_UM / mpp_xy[1])
    cut = picture[top : top + side_y, left : left + side_x]
    tiled = np.tile(cut, (-(-height // len(cut)), -(-width // cut.shape[1]), 1))
    return tiled[:height, :width].astype(np.float64)


POISON = Chip()
