"""Stages: each reads and writes the run folder; what is up to date is left alone. The CLI and Python call the same."""

from wsi_mil.stages.pipeline import STAGES, run_pipeline, run_stage
from wsi_mil.stages.predict import predict_slides
from wsi_mil.stages.run_folder import RunFolder

__all__ = ["STAGES", "RunFolder", "predict_slides", "run_pipeline", "run_stage"]
