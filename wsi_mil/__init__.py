"""wsi_mil: from a folder of whole-slide images and one label per slide to checked tumour heatmaps.

The package is light to import: a name below loads its stage on first use, so that `import wsi_mil`
needs neither torch nor OpenSlide.

>>> import wsi_mil
>>> wsi_mil.__version__
'0.1.0'
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_DOORS = {
    "open_slide": "wsi_mil.slides",
    "find_slides": "wsi_mil.slides",
    "read_scaled": "wsi_mil.slides",
    "TissueSpec": "wsi_mil.tissue",
    "find_tissue": "wsi_mil.tissue",
    "TileSpec": "wsi_mil.contracts.tiles",
    "tile_slide": "wsi_mil.tiles",
    "EncoderSpec": "wsi_mil.encoders",
    "build_encoder": "wsi_mil.encoders",
    "encode_tiles": "wsi_mil.features",
    "extract_features": "wsi_mil.features",
    "load_model": "wsi_mil.scoring",
    "score_features": "wsi_mil.scoring",
    "score_raster": "wsi_mil.heatmaps",
    "draw_overlay": "wsi_mil.heatmaps",
    "load_config": "wsi_mil.config",
    "run_pipeline": "wsi_mil.stages",
}

__all__ = ["__version__", *_DOORS]


def __getattr__(name: str) -> Any:
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'wsi_mil' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
