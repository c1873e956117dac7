"""The one place that decides where a per-slide function runs: here, in local processes, or on a Dask cluster."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal, Protocol, TypeVar

from pydantic import Field, model_validator

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import WsiMilError
from wsi_mil.execution.clusters import ClusterSpec
from wsi_mil.execution.dask_backend import map_on_dask


class ExecutionSpec(Spec):
    """`local`: `workers` processes (1: in this one); `dask`: the scheduler at `scheduler` (a host:port address),
    or the jobs of `cluster`."""

    backend: Literal["local", "dask"] = "local"
    workers: int = Field(default=0, ge=0, description="0: one per core")
    threads: int = Field(default=0, ge=0, description="reading and torch threads; 0: one per core")
    device: str = Field(default="auto", description="cpu, cuda, cuda:1, mps; auto: cuda where there is one")
    devices: Literal["all"] | tuple[str, ...] = Field(
        default=(),
        description="extract: one process on each of these, [cuda:0, cuda:1]; all: every CUDA device; none: `device` alone",
    )
    scheduler: str | None = None
    cluster: ClusterSpec | None = Field(
        default=None, description="dask: start these jobs instead of using a scheduler that runs"
    )
    retries: int = Field(
        default=2, ge=0, description="dask: other workers that try a slide which one could not do"
    )

    @model_validator(mode="after")
    def _cluster_is_used(self) -> "ExecutionSpec":
        if self.cluster is not None and (self.backend != "dask" or self.scheduler is not None):
            raise ValueError(
                "execution.cluster starts jobs for backend=dask, without a scheduler of your own: say backend=dask and leave scheduler out"
            )
        if self.devices and self.backend != "local":
            raise ValueError(
                "execution.devices are those of this machine (backend=local); Dask's workers take one each: leave it out"
            )
        return self

    def resolved_workers(self) -> int:
        return self.workers or available_cores()

    def resolved_threads(self) -> int:
        return self.threads or available_cores()

    def asks_for_gpu(self, stage: str) -> bool:
        """Return whether tasks of a stage go to Dask workers with a GPU only (started with `--resources GPU=1`)."""
        if not stage.startswith("extract"):
            return False
        return self.device.startswith("cuda") or (self.cluster is not None and self.cluster.gpus > 0)


def available_cores() -> int:
    """Return how many cores this process may use (a container's or SLURM's share, not the machine's)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Job(Protocol):
    @property
    def slide_id(self) -> str: ...


J = TypeVar("J", bound=Job)


def map_slides(
    function: Callable[[J], Outcome], jobs: Sequence[J], *, stage: str, spec: ExecutionSpec
) -> Iterator[Outcome]:
    """Yield one Outcome per job, as they finish; an exception becomes a failed Outcome and never stops the others.

    `function` is a module-level function (or a partial of one) of a picklable job with a `slide_id`; the serial run
    and the workers call the same one. A worker killed from outside fails the jobs that it held.
    """
    guarded = partial(run_guarded, function, stage)
    if spec.backend == "dask":
        yield from map_on_dask(function, jobs, stage, spec)
    elif min(spec.resolved_workers(), len(jobs)) <= 1:
        yield from map(guarded, jobs)
    else:
        yield from _in_processes(guarded, jobs, stage, min(spec.resolved_workers(), len(jobs)))


def run_guarded(function: Callable[[Any], Outcome], stage: str, job: Any) -> Outcome:
    """Return `function(job)`, or the failed Outcome that tells what stopped it."""
    started = time.perf_counter()
    try:
        return function(job)
    except Exception as error:
        return Outcome(job.slide_id, stage, "failed", reason_of(error), seconds=time.perf_counter() - started)


def reason_of(error: Exception) -> str:
    """Return in one line what stopped a slide."""
    if isinstance(error, WsiMilError):
        reason = str(error)
    elif isinstance(error, MemoryError):
        reason = "out of memory: use fewer workers (execution.workers) or a larger tissue.mpp"
    elif isinstance(error, OSError):
        reason = f"{error.strerror or type(error).__name__}: {error.filename or error}"
    else:
        reason = f"unexpected {type(error).__name__}: {error}"
    return " ".join(reason.split())


def _in_processes(
    guarded: Callable[[J], Outcome], jobs: Sequence[J], stage: str, workers: int
) -> Iterator[Outcome]:
    # spawn: forking a process that holds torch's or OpenSlide's threads deadlocks
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    waiting = iter(jobs)
    running: dict[Future[Outcome], J] = {}
    try:
        while True:
            while len(running) < 2 * workers and (job := next(waiting, None)) is not None:
                running[pool.submit(guarded, job)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    for lost in [job, *running.values(), *waiting]:
                        reason = (
                            "a worker process was killed from outside (out of memory?); run again to resume"
                        )
                        yield Outcome(lost.slide_id, stage, "failed", reason)
                    return
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
