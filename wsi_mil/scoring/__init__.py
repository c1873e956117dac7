"""Scoring: a model and a slide's features give slide and tile scores, thresholds and detections."""

from wsi_mil.scoring.files import read_slide_scores, read_tile_scores, write_slide_scores, write_tile_scores
from wsi_mil.scoring.model import TrainedModel, load_model
from wsi_mil.scoring.scores import score_bag, score_features, slide_probability
from wsi_mil.scoring.thresholds import Threshold, choose_threshold

__all__ = [
    "Threshold",
    "TrainedModel",
    "choose_threshold",
    "load_model",
    "read_slide_scores",
    "read_tile_scores",
    "score_bag",
    "score_features",
    "slide_probability",
    "write_slide_scores",
    "write_tile_scores",
]
