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
    attention: what PNG and TIFF show of scores that are no probabilities: their score01, or their rank among
    the slide's tiles. score01 can be compared between slides. Ranks show the order of all tiles, and each
    slide, also a normal one, has a tile of rank 1.

    score: which tile score maps, contours and tiles show of methods that have two: the main one, or the one
    of this kind, such as logit. A method without such a second score is drawn by its main one; the log says
    so.

    objects: what goes into the GeoJSON.
    contours: an annotation for each region of tiles at or above each of `thresholds`. Without thresholds it
    is the model's own, chosen on validation; see `SlideScores.tile_threshold` for attention.
    tiles: one object each, from `min_tile_probability` on, at most `top_tiles`, those of the highest score.
    Tiles from the lowest threshold on have the class Tumor.
    detections: the points that FROC counts, which are of the main score. tissue: the outline of the tissue.
    """

    parts: tuple[Literal["train", "val", "test", "unlabelled"], ...] = ("test", "unlabelled")
    overlay_px: int = Field(default=900, ge=100)
    pixels_per_tile: int = Field(default=4, ge=1)
    attention: Literal["score01", "rank"] = "score01"
    score: Literal["main", "attention", "logit", "probability"] = "main"
    objects: tuple[Objects, ...] = Field(default=("contours", "tiles"), min_length=1)
    thresholds: tuple[Fraction, ...] = ()
    min_region_um2: float = Field(
        default=500.0, ge=0, description="contours smaller than this, a few cells, are left out"
    )
    min_tile_probability: Fraction = 0.0
    top_tiles: int | None = Field(default=None, ge=1)
