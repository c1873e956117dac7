"""Evaluation: scores against truth, on arrays and records. Nothing here reads a model or a run folder.

`table` lists the metrics, `measure` computes them, `results` holds the results and `metrics_file` writes
them. An undefined metric is NaN with a reason.
"""

from wsi_mil.evaluation.annotations import (
    AnnotationFolder,
    AnnotationRules,
    known_lesions,
    lesions_or_unknown,
    read_annotations,
)
from wsi_mil.evaluation.froc import FrocCurve, evaluation_mask, froc_curve, match_detections
from wsi_mil.evaluation.intervals import bootstrap_interval
from wsi_mil.evaluation.patch_level import patch_metrics
from wsi_mil.evaluation.slide_level import slide_metrics
from wsi_mil.evaluation.tile_truth import tile_overlap

__all__ = [
    "AnnotationFolder",
    "AnnotationRules",
    "FrocCurve",
    "bootstrap_interval",
    "evaluation_mask",
    "froc_curve",
    "known_lesions",
    "lesions_or_unknown",
    "match_detections",
    "patch_metrics",
    "read_annotations",
    "slide_metrics",
    "tile_overlap",
]
