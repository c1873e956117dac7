"""What every kind of poison states: where it lies on a slide, and what the pixels under it look like."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.robustness.poison.places import Places, patches_in_tiles

if TYPE_CHECKING:
    from wsi_mil.robustness.poison.plan import PoisonPlan
    from wsi_mil.robustness.poison.spec import PoisonSpec
    from wsi_mil.robustness.poison.window import Window

Image = NDArray[np.float32]


class Poison(ABC):
    """One kind of poison. `PoisonSpec` holds the user's settings, `PoisonPlan` the places on one slide."""

    whole_slide: ClassVar[bool] = False
    """Whether the poison lies on every pixel of the slide unless `poison.coverage` says otherwise."""
    needs_stains: ClassVar[bool] = False
    """Whether `paint` uses the slide's own haematoxylin and eosin vectors (`plan.stains`)."""
    parameters: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """Settings that only this kind has, with their defaults; a user gives others in `poison.params`."""

    def places(
        self,
        info: SlideInfo,
        table: TileTable,
        spec: "PoisonSpec",
        avoided: BaseGeometry,
        rng: np.random.Generator,
    ) -> Places:
        """Return where the poison lies on one slide, in level-0 px; by default rectangles inside random
        tiles.

        `avoided`: lesions that no place may touch. Not called when the whole slide is covered.
        """
        return Places(patches_in_tiles(table, spec, avoided, rng))

    @abstractmethod
    def paint(self, plan: "PoisonPlan", window: "Window", pixels: RGB) -> Image:
        """Return (h, w, 3) float32: how `pixels` (h, w, 3), the slide's own in `window`, look under the
        poison.

        Every pixel is treated as if it were fully covered; `PoisonedSlide` mixes by coverage. A pixel's value
        may depend on its place and on the slide only, never on how the window was cut.
        """

    def parameter(self, spec: "PoisonSpec", name: str) -> float:
        """Return the user's value of a parameter of this kind, or its default."""
        return spec.params.get(name, self.parameters[name])
