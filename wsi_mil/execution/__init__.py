"""Run one pure per-slide function over many slides and keep account of every one."""

from wsi_mil.execution.jobs import run_jobs
from wsi_mil.execution.mapping import ExecutionSpec, map_slides

__all__ = ["ExecutionSpec", "map_slides", "run_jobs"]
