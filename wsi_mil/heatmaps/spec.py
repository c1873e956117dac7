"""The settings of heatmaps."""

from typing import Annotated, Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec

Objects = Literal["contours", "tiles", "detections", "tissue"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class HeatmapSpec(Spec):
    """Settings of the stage heatmap.

    overlay_px: longer side of the PNG. parts: which slides get heatmaps.
    pixels_per_tile: raster pixels along a tile's stride.
    attention: how attention is shown in PNG and TIFF, as it has no unit: its rank among the slide's tiles,
    or its fraction of the largest weight. Other scores are shown as probabilities.

    objects: what goes into the GeoJSON.
    contours: an annotation for each region of tiles at or above each of `thresholds`. Without thresholds it
    is the model's own, chosen on validation; for attention half of the slide's largest weight.
    tiles: one object each, from `min_tile_probability` on, at most `top_tiles`, those of the highest score.
    Tiles from the lowest threshold on have the class Tumor.
    detections: the points that FROC counts. tissue: the outline of the tissue.
    """

    parts: tuple[Literal["train", "val", "test", "unlabelled"], ...] = ("test", "unlabelled")
    overlay_px: int = Field(default=900, ge=100)
    pixels_per_tile: int = Field(default=4, ge=1)
    attention: Literal["rank", "largest"] = "rank"
    objects: tuple[Objects, ...] = Field(default=("contours", "tiles"), min_length=1)
    thresholds: tuple[Fraction, ...] = ()
    min_region_um2: float = Field(
        default=500.0, ge=0, description="contours smaller than this, a few cells, are left out"
    )
    min_tile_probability: Fraction = 0.0
    top_tiles: int | None = Field(default=None, ge=1)
