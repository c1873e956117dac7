"""Training: one loop over any aggregator; the model is chosen on validation only; a stop at any moment resumes exactly."""

from typing import TYPE_CHECKING

from wsi_mil.lazy import lazy_door
from wsi_mil.training.spec import TrainSpec

if TYPE_CHECKING:
    from wsi_mil.training.loop import FitResult, fit
    from wsi_mil.training.standardize import Standardizer

__getattr__ = lazy_door(__name__, {"FitResult": "loop", "fit": "loop", "Standardizer": "standardize"})
__all__ = ["FitResult", "Standardizer", "TrainSpec", "fit"]
