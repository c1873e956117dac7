"""Poison of kind `stain`: haematoxylin and eosin as another laboratory's slides show them."""

import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.robustness.poison.kinds.base import Image, Poison
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.robustness.poison.window import Window
from wsi_mil.stains import recolour, shifted_stains, stain_matrix


class Stain(Poison):
    """Shifted stain vectors and amounts, drawn once for `poison.seed`; or the slide's own times
    `stain_gains`.
    """

    whole_slide = True
    needs_stains = True

    def paint(self, plan: PoisonPlan, window: Window, pixels: RGB) -> Image:
        spec = plan.spec
        if spec.stain_gains is not None:
            other, gains = plan.stains, np.array(spec.stain_gains)
        else:
            other, gains = shifted_stains(plan.stains, spec.strength, np.random.default_rng(spec.seed))
        return recolour(pixels, stain_matrix(plan.stains, other, gains)).astype(np.float32)


POISON = Stain()
