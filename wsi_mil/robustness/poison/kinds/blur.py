"""Poison of kind `blur`: patches out of focus."""

import math

import cv2
import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.robustness.poison.kinds.base import Image, Poison
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.robustness.poison.window import Window

BLUR_UM = 4.0


class Blur(Poison):
    """A Gaussian blur; its standard deviation is 4 µm at strength 1, at every level of the slide."""

    def paint(self, plan: PoisonPlan, window: Window, pixels: RGB) -> Image:
        return blurred(window, plan.spec.strength * BLUR_UM, plan.mpp_xy).astype(np.float32)


def blurred(window: Window, sigma_um: float, mpp_xy: tuple[float, float]) -> RGB:
    """Return (h, w, 3): the window, blurred. A margin is read around it, so its edges equal the whole
    slide's.
    """
    sigma_x, sigma_y = sigma_um / mpp_xy[0] / window.down_x, sigma_um / mpp_xy[1] / window.down_y
    size_x, size_y = (2 * math.ceil(3 * max(sigma, 1e-3)) + 1 for sigma in (sigma_x, sigma_y))
    margin_x, margin_y = size_x // 2, size_y // 2
    wide = window.read(margin_x, margin_y, margin_x, margin_y)
    soft = cv2.GaussianBlur(wide, (size_x, size_y), max(sigma_x, 1e-3), sigmaY=max(sigma_y, 1e-3))
    inner = soft[margin_y : margin_y + window.height_px, margin_x : margin_x + window.width_px]
    return np.asarray(inner, np.uint8)


POISON = Blur()
