"""Encoders: from tile pixels to feature vectors. `texture` needs no weights; timm and torchvision families do."""

from wsi_mil.encoders.base import Encoder, EncoderSpec
from wsi_mil.encoders.catalog import build_encoder, list_encoders

__all__ = ["Encoder", "EncoderSpec", "build_encoder", "list_encoders"]
