"""Classifiers of images whose attention maps are part of their training: from a patch's label to its pixels."""

from typing import TYPE_CHECKING

from wsi_mil.lazy import lazy_door

if TYPE_CHECKING:
    from wsi_mil.attention2d.backbones import VolumeTransformer, build_backbone
    from wsi_mil.attention2d.bilinear import AttentionMaps, bilinear_attention_pooling
    from wsi_mil.attention2d.cal import CAL, CALOutput
    from wsi_mil.attention2d.cam import grad_cam
    from wsi_mil.attention2d.gain import GAIN, GAINOutput
    from wsi_mil.attention2d.loss_attention import LossAttentionPool2d, PooledMaps
    from wsi_mil.attention2d.measures import Localisation, localise
    from wsi_mil.attention2d.supervision import box_masks, polygon_masks

__getattr__ = lazy_door(  # configurations take `spec` from here and load no torch
    __name__,
    {
        "CAL": "cal",
        "CALOutput": "cal",
        "GAIN": "gain",
        "GAINOutput": "gain",
        "AttentionMaps": "bilinear",
        "bilinear_attention_pooling": "bilinear",
        "LossAttentionPool2d": "loss_attention",
        "PooledMaps": "loss_attention",
        "Localisation": "measures",
        "VolumeTransformer": "backbones",
        "box_masks": "supervision",
        "polygon_masks": "supervision",
        "localise": "measures",
        "build_backbone": "backbones",
        "grad_cam": "cam",
    },
)

__all__ = [
    "CAL",
    "GAIN",
    "AttentionMaps",
    "CALOutput",
    "GAINOutput",
    "Localisation",
    "LossAttentionPool2d",
    "PooledMaps",
    "VolumeTransformer",
    "bilinear_attention_pooling",
    "box_masks",
    "build_backbone",
    "grad_cam",
    "localise",
    "polygon_masks",
]
