"""Training: one loop over any aggregator; the model is chosen on validation only; a stop at any moment resumes exactly."""

from wsi_mil.training.loop import FitResult, fit
from wsi_mil.training.spec import TrainSpec
from wsi_mil.training.standardize import Standardizer

__all__ = ["FitResult", "Standardizer", "TrainSpec", "fit"]
