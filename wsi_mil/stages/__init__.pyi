from .pipeline import run_pipeline as run_pipeline
from .pipeline import run_stage as run_stage
from .predict import predict_slides as predict_slides
from .table import STAGES as STAGES
