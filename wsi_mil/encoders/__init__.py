"""Encoders: from tile pixels to feature vectors. `texture` needs no weights; timm and torchvision families do."""

from typing import TYPE_CHECKING

from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.lazy import lazy_door

if TYPE_CHECKING:
    from wsi_mil.encoders.base import Encoder
    from wsi_mil.encoders.catalog import build_encoder, list_encoders

__getattr__ = lazy_door(__name__, {"Encoder": "base", "build_encoder": "catalog", "list_encoders": "catalog"})
__all__ = ["Encoder", "EncoderSpec", "build_encoder", "list_encoders"]
