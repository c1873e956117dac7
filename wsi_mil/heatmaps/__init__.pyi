from .overlay import draw_overlay as draw_overlay
from .pyramid import write_score_pyramid as write_score_pyramid
from .qupath import contour_features as contour_features
from .qupath import detection_features as detection_features
from .qupath import shown_tiles as shown_tiles
from .qupath import tile_features as tile_features
from .raster import ScoreRaster as ScoreRaster
from .raster import score_raster as score_raster
