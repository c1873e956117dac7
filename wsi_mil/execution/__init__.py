"""Run one function for many slides or jobs: in processes, on devices or on a Dask cluster."""

from wsi_mil.execution.jobs import run_jobs
from wsi_mil.execution.mapping import map_on_devices, map_slides, read_slides
from wsi_mil.execution.spec import ExecutionSpec
from wsi_mil.execution.supervision import stopped_at_the_end

__all__ = ["ExecutionSpec", "map_on_devices", "map_slides", "read_slides", "run_jobs", "stopped_at_the_end"]
