"""Classifiers of images whose attention maps are part of their training: from a patch's label to its pixels."""

from wsi_mil.spatial.bilinear import AttentionMaps, bilinear_attention_pooling
from wsi_mil.spatial.cal import CAL, CALOutput
from wsi_mil.spatial.gain import GAIN, GAINOutput
from wsi_mil.spatial.grad_cam import grad_cam
from wsi_mil.spatial.loss_attention import LossAttentionPool2d, PooledMaps

__all__ = [
    "CAL",
    "GAIN",
    "AttentionMaps",
    "CALOutput",
    "GAINOutput",
    "LossAttentionPool2d",
    "PooledMaps",
    "bilinear_attention_pooling",
    "grad_cam",
]
