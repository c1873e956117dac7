"""What heatmaps are asked for."""

from typing import Annotated, Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec

Objects = Literal["contours", "tiles", "detections", "tissue"]
Share = Annotated[float, Field(ge=0, le=1)]


class HeatmapSpec(Spec):
    """`overlay_px`: longer side of the PNG. `parts`: which slides get heatmaps; `pixels_per_tile`: raster pixels along
    a tile's stride. `attention`: how attention, which has no unit, is shown in PNG and TIFF: its rank among the slide's
    tiles, or its share of the largest weight; other scores are shown as probabilities.

    `objects`: what goes into the GeoJSON. `contours`: one annotation per region of tiles at or above each of
    `thresholds`; by default the model's own, chosen on validation (attention, which has no unit: half of the slide's
    largest weight). `tiles`: one each, from `min_tile_probability` on, at most the `top_tiles` most probable, of class
    Tumor from the lowest threshold on. `detections`: the points that FROC counts. `tissue`: the outline."""

    parts: tuple[Literal["train", "val", "test", "unlabelled"], ...] = ("test", "unlabelled")
    overlay_px: int = Field(default=900, ge=100)
    pixels_per_tile: int = Field(default=4, ge=1)
    attention: Literal["rank", "largest"] = "rank"
    objects: tuple[Objects, ...] = Field(default=("contours", "tiles"), min_length=1)
    thresholds: tuple[Share, ...] = ()
    min_region_um2: float = Field(
        default=500.0, ge=0, description="contours smaller than this, a few cells, are left out"
    )
    min_tile_probability: Share = 0.0
    top_tiles: int | None = Field(default=None, ge=1)
