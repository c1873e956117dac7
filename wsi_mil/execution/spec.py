"""The settings `execution` of a configuration: where the work of a run is done."""

import os
from typing import Literal

from pydantic import Field, model_validator

from wsi_mil.contracts.spec import Spec
from wsi_mil.execution.clusters import ClusterSpec


class ExecutionSpec(Spec):
    """Where slides and trainings run.

    `local`: in `workers` processes of this machine. `dask`: on the workers of the
    scheduler at `scheduler` (host:port), or on the jobs that `cluster` starts.
    """

    backend: Literal["local", "dask"] = "local"
    workers: int = Field(default=0, ge=0, description="0: one per core")
    threads: int = Field(default=0, ge=0, description="reading and torch threads; 0: one per core")
    device: str = Field(default="auto", description="cpu, cuda, cuda:1, mps; auto: cuda where there is one")
    devices: Literal["all"] | tuple[str, ...] = Field(
        default=(),
        description="extract: one process on each of these, [cuda:0, cuda:1]; all: every CUDA device; "
        "none: `device` alone",
    )
    open_timeout_s: float = Field(
        default=120.0,
        ge=0,
        description="a slide that takes longer to open fails; 0: no limit",
    )
    scheduler: str | None = None
    cluster: ClusterSpec | None = Field(
        default=None, description="dask: start these jobs instead of using a running scheduler"
    )
    retries: int = Field(
        default=2, ge=0, description="dask: how many other workers try a slide after one failed"
    )

    @model_validator(mode="after")
    def _backend_uses_what_is_given(self) -> "ExecutionSpec":
        if self.cluster is not None and (self.backend != "dask" or self.scheduler is not None):
            raise ValueError(
                "execution.cluster starts jobs and a scheduler for backend=dask: "
                "set backend=dask and leave scheduler out"
            )
        if self.cluster is not None and self.cluster.gpus == 0 and self.device.startswith("cuda"):
            raise ValueError(
                f"execution.device={self.device} needs workers with a GPU, and execution.cluster.gpus=0: "
                "set execution.cluster.gpus=1"
            )
        if self.devices and self.backend != "local":
            raise ValueError(
                "execution.devices are those of this machine (backend=local), "
                "and each Dask worker uses one device: leave devices out"
            )
        return self

    def resolved_workers(self) -> int:
        """Return the number of worker processes: `workers`, or one per core."""
        return self.workers or available_cores()

    def resolved_threads(self) -> int:
        """Return the number of threads of one process: `threads`, or one per core."""
        return self.threads or available_cores()

    def threads_of_each(self, processes: int) -> int:
        """Return the number of threads of each of so many processes that work side by side.

        >>> ExecutionSpec(threads=8).threads_of_each(3)
        2
        """
        return max(self.resolved_threads() // max(processes, 1), 1)

    def on_this_machine(self, workers: int = 0) -> "ExecutionSpec":
        """Return the settings of local work with `workers` processes, or as many as here."""
        return ExecutionSpec(workers=workers or self.workers, open_timeout_s=self.open_timeout_s)

    @property
    def asks_for_gpu(self) -> bool:
        """Whether jobs that can use a GPU must get one: the device is CUDA, or the jobs of the cluster have
        GPUs."""
        return self.device.startswith("cuda") or (self.cluster is not None and self.cluster.gpus > 0)


def available_cores() -> int:
    """Return how many cores this process may use: what a container or SLURM allows, not all of the machine.

    >>> available_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
