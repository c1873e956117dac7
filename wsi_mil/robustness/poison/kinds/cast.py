"""Poison of kind `cast`: a tint over the whole slide."""

import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.robustness.poison.kinds.base import Image, Poison
from wsi_mil.robustness.poison.painting import filtered
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.robustness.poison.window import Window

DEPTH = 0.35


class Cast(Poison):
    """Light of `poison.colour`: the brightest channel keeps its light, the others lose up to 35 % at strength
    1.
    """

    whole_slide = True

    def paint(self, plan: PoisonPlan, window: Window, pixels: RGB) -> Image:
        light = np.array(plan.spec.colour) / max(plan.spec.colour)
        return filtered(pixels, 1 - plan.spec.strength * DEPTH * (1 - light))


POISON = Cast()
