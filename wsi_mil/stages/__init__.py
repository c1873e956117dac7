"""Stages: each reads and writes the run folder; what is up to date is left alone. The CLI and Python call the same."""

from typing import TYPE_CHECKING

from wsi_mil.lazy import lazy_door
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages.pipeline import STAGES, run_pipeline, run_stage

if TYPE_CHECKING:
    from wsi_mil.stages.predict import predict_slides

__getattr__ = lazy_door(__name__, {"predict_slides": "predict"})
__all__ = ["STAGES", "RunFolder", "predict_slides", "run_pipeline", "run_stage"]
