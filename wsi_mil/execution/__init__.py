"""Run one function for many slides or jobs: in processes, on devices or on a Dask cluster."""

from wsi_mil.execution.jobs import run_jobs
from wsi_mil.execution.mapping import map_on_devices, map_slides
from wsi_mil.execution.spec import ExecutionSpec

__all__ = ["ExecutionSpec", "map_on_devices", "map_slides", "run_jobs"]
