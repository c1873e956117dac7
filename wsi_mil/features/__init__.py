"""Features in Zarr v3, one store a slide, whole or absent; and the engine that fills them."""

from wsi_mil.features.engine import ExtractionReport, encode_tiles, extract_features
from wsi_mil.features.store import SlideStore

__all__ = ["ExtractionReport", "SlideStore", "encode_tiles", "extract_features"]
