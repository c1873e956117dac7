"""Heatmaps: tile scores as a raster, an overlay to look at, a pyramid and GeoJSON for QuPath."""

from wsi_mil.heatmaps.overlay import draw_overlay
from wsi_mil.heatmaps.pyramid import write_score_pyramid
from wsi_mil.heatmaps.qupath import contour_features, detection_features, shown_tiles, tile_features
from wsi_mil.heatmaps.raster import ScoreRaster, score_raster

__all__ = [
    "ScoreRaster",
    "contour_features",
    "detection_features",
    "draw_overlay",
    "score_raster",
    "shown_tiles",
    "tile_features",
    "write_score_pyramid",
]
