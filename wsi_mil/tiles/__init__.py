"""Tiles: one tile grid per slide, of which the tiles with tissue are kept and read at the requested scale."""

from wsi_mil.tiles.coverage import tissue_fractions
from wsi_mil.tiles.geometry import plan_reading, tile_grid
from wsi_mil.tiles.pixels import TileReader
from wsi_mil.tiles.selection import tile_slide

__all__ = ["TileReader", "plan_reading", "tile_grid", "tile_slide", "tissue_fractions"]
