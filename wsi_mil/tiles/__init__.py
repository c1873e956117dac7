"""Tiles: one slide-global lattice, kept where there is tissue, read from the best finer level."""

from wsi_mil.tiles.coverage import tissue_fractions
from wsi_mil.tiles.geometry import lattice, plan_reading
from wsi_mil.tiles.pixels import TileReader
from wsi_mil.tiles.selection import tile_slide

__all__ = ["TileReader", "lattice", "plan_reading", "tile_slide", "tissue_fractions"]
