"""The maps of single classes: which classes a slide has maps of, their rasters and their colours."""

from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.geojson import Colour
from wsi_mil.heatmaps.raster import ScoreRaster, score_raster

MAJORITY = 0.5
"""The probability from which on a region belongs to a class: at most one class of a tile is above it."""
PALETTE = (
    (214, 39, 40),
    (31, 119, 180),
    (44, 160, 44),
    (255, 127, 14),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (23, 190, 207),
)
"""The colours of classes in QuPath, in the order of the classes; they repeat after the last one."""


def mapped_classes(scheme: LabelScheme | None) -> tuple[str, ...]:
    """Return the classes that get a heatmap each: positive ones if there are several, all if none is normal.

    A single positive class has the heatmap of the slide itself.

    >>> mapped_classes(LabelScheme(("normal", "luad", "lusc"), ("luad", "lusc"), ("normal",), "words"))
    ('luad', 'lusc')
    """
    if scheme is None:
        return ()
    if not scheme.has_negative:
        return scheme.class_names
    return scheme.positive if len(scheme.positive) > 1 else ()


def class_colour(scores: SlideScores, class_name: str) -> Colour:
    """Return the colour (red, green, blue) of a class of the slide's scores."""
    return PALETTE[scores.class_names.index(class_name) % len(PALETTE)]


def class_raster(
    table: TileTable, scores: SlideScores, class_name: str, pixels_per_tile: int = 4
) -> ScoreRaster:
    """Return the raster of a class's probability, of each tile alone."""
    return score_raster(table, scores.class_scores(class_name), pixels_per_tile)
