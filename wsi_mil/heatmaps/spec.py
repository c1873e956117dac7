"""What heatmaps are asked for."""

from typing import Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec


class HeatmapSpec(Spec):
    """`overlay_px`: longer side of the PNG. `parts`: which slides get heatmaps; `pixels_per_tile`: raster pixels along
    a tile's stride. `threshold`: from which tile probability on a region counts as tumour in the contours; by default
    the model's own, chosen on validation (attention, which has no unit: half of the slide's largest weight)."""

    parts: tuple[Literal["train", "val", "test", "unlabelled"], ...] = ("test", "unlabelled")
    overlay_px: int = Field(900, ge=100)
    pixels_per_tile: int = Field(4, ge=1)
    threshold: float | None = Field(None, ge=0, le=1)
    tiles: bool = Field(True, description="write every tile into the GeoJSON, not only contours")
