"""Tiles: one tile grid for the whole slide, kept where there is tissue, read from the best finer level."""

from wsi_mil.tiles.coverage import tissue_fractions
from wsi_mil.tiles.geometry import plan_reading, tile_grid
from wsi_mil.tiles.pixels import TileReader
from wsi_mil.tiles.selection import tile_slide

__all__ = ["TileReader", "plan_reading", "tile_grid", "tile_slide", "tissue_fractions"]
