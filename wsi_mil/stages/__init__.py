"""Stages: each reads and writes the run folder and leaves alone what is up to date. Python and the CLI call the same.

A stage is a module of this folder with `run(context) -> int`; those that work slide by slide also have a picklable
job and a function `<stage>_one(job) -> Outcome`. `table.py` lists them.
"""

from typing import TYPE_CHECKING

from wsi_mil.lazy import lazy_door
from wsi_mil.stages.table import STAGES

if TYPE_CHECKING:
    from wsi_mil.run.folder import RunFolder
    from wsi_mil.stages.pipeline import run_pipeline, run_stage
    from wsi_mil.stages.predict import predict_slides

__getattr__ = lazy_door(
    __name__,
    {
        "predict_slides": "predict",
        "run_pipeline": "pipeline",
        "run_stage": "pipeline",
        "RunFolder": "pipeline",
    },
)
__all__ = ["STAGES", "RunFolder", "predict_slides", "run_pipeline", "run_stage"]
