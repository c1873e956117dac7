"""Features in Zarr v3, one store a slide, whole or absent; and the engine that fills them."""

from typing import TYPE_CHECKING

from wsi_mil.features.mapped import MappedFeatures
from wsi_mil.features.store import SlideStore
from wsi_mil.features.stored import FeatureOrigin, PoisonRecord, StoredFeatures
from wsi_mil.lazy import lazy_door

if TYPE_CHECKING:
    from wsi_mil.features.engine import ExtractionReport, encode_tiles, extract_features, extract_slides

__getattr__ = lazy_door(
    __name__,
    {
        "ExtractionReport": "engine",
        "encode_tiles": "engine",
        "extract_features": "engine",
        "extract_slides": "engine",
    },
)
__all__ = [
    "ExtractionReport",
    "FeatureOrigin",
    "MappedFeatures",
    "PoisonRecord",
    "SlideStore",
    "StoredFeatures",
    "encode_tiles",
    "extract_features",
    "extract_slides",
]
