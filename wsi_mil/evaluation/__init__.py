"""Evaluation: annotations against scores. Knows no model; a metric that is undefined is NaN with a reason."""

from wsi_mil.evaluation.annotations import AnnotationFolder, read_annotations
from wsi_mil.evaluation.froc import FrocCurve, evaluation_mask, froc_curve, match_detections
from wsi_mil.evaluation.intervals import bootstrap_interval
from wsi_mil.evaluation.patch_metrics import patch_metrics, tile_overlap
from wsi_mil.evaluation.slide_metrics import slide_metrics

__all__ = [
    "AnnotationFolder",
    "FrocCurve",
    "bootstrap_interval",
    "evaluation_mask",
    "froc_curve",
    "match_detections",
    "patch_metrics",
    "read_annotations",
    "slide_metrics",
    "tile_overlap",
]
