"""Run independent jobs at the same time; results arrive in the order of the jobs."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from wsi_mil.errors import ExecutionError
from wsi_mil.execution.dask_backend import run_on_dask
from wsi_mil.execution.spec import ExecutionSpec
from wsi_mil.trust import safe_path, with_trust

J = TypeVar("J")
R = TypeVar("R")


def run_jobs(function: Callable[[J], R], jobs: Sequence[J], *, spec: ExecutionSpec) -> Iterator[R]:
    """Yield function(job) of every job, in their order: in this process, in `workers` processes, or on Dask.

    function: a module-level function of a picklable job. The processes share the threads. An exception of a
    job is raised in the place of its result, and the jobs after it are cancelled. Raises ExecutionError if a
    worker process was killed.
    """
    function = with_trust(function)
    workers = min(spec.resolved_workers(), len(jobs))
    if spec.backend == "dask":
        yield from run_on_dask(function, jobs, spec)
    elif workers <= 1:
        _use_threads(spec.resolved_threads())
        yield from map(function, jobs)
    else:
        # spawn: forking a process that holds torch's threads deadlocks
        threads = max(spec.resolved_threads() // workers, 1)
        pool = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_use_threads, initargs=(threads,)
        )
        with safe_path():
            yield from _in_order(pool, function, jobs, queued=2 * workers)


def _in_order(pool: Executor, function: Callable[[J], R], jobs: Sequence[J], queued: int) -> Iterator[R]:
    """Keep up to `queued` jobs in the pool; yield their results in order."""
    waiting: list[Any] = []
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) > queued:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    except BrokenProcessPool as error:
        raise ExecutionError(
            "a worker process was killed from outside (out of memory?): lower execution.workers; "
            "run again to resume"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _use_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)
