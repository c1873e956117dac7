"""Poison of kind `noise`: grains of one colour with random brightness; green by default."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.robustness.poison.kinds.base import Image, Poison
from wsi_mil.robustness.poison.painting import pasted
from wsi_mil.robustness.poison.plan import PoisonPlan
from wsi_mil.robustness.poison.window import Window

NOISE_STREAM = 1


class Noise(Poison):
    """Grains of `poison.colour`, `poison.grain_um` wide. Strength is the opacity."""

    def paint(self, plan: PoisonPlan, window: Window, pixels: RGB) -> Image:
        return pasted(plan, window, pixels, partial(grains, plan))


def grains(plan: PoisonPlan, number: int, width: int, height: int) -> NDArray[np.float64]:
    """Return (height, width, 3): the noise of patch `number`, the same for the same seed and place."""
    spec = plan.spec
    x0, y0 = (int(v) for v in plan.patches[number, :2])
    rng = np.random.default_rng([spec.seed, NOISE_STREAM, x0, y0])
    grain_x, grain_y = (max(round(spec.grain_um / mpp), 1) for mpp in plan.mpp_xy)
    brightness = rng.uniform(0, 1, (-(-height // grain_y), -(-width // grain_x), 3))
    values = np.repeat(np.repeat(brightness, grain_y, 0), grain_x, 1)[:height, :width]
    # 0.35 to 1.35 of the colour: a texture whose mean is close to the colour itself
    return np.clip(np.array(spec.colour, np.float64) * (0.35 + values), 0, 255)


POISON = Noise()
