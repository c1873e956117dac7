"""Run independent jobs at the same time; results arrive in the order of the jobs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from wsi_mil.errors import ExecutionError
from wsi_mil.execution.dask_backend import run_on_dask
from wsi_mil.execution.guard import portable
from wsi_mil.execution.spec import ExecutionSpec
from wsi_mil.execution.supervision import Death, stopped_at_the_end, supervise
from wsi_mil.trust import with_trust

J = TypeVar("J")
R = TypeVar("R")


def run_jobs(function: Callable[[J], R], jobs: Sequence[J], *, spec: ExecutionSpec) -> Iterator[R]:
    """Yield function(job) of every job, in their order: in this process, in `workers` processes, or on Dask.

    function: a module-level function of a picklable job. The processes share the threads. An exception of a
    job is raised in the place of its result, and the jobs after it are cancelled. Raises ExecutionError if a
    worker process was killed.
    """
    workers = min(spec.resolved_workers(), len(jobs))
    if spec.backend == "dask":
        yield from run_on_dask(with_trust(function), jobs, spec)
    elif workers <= 1:
        _use_threads(spec.resolved_threads())
        yield from map(with_trust(function), jobs)
    else:
        threads = max(spec.resolved_threads() // workers, 1)
        numbered = [_Job(str(number), job) for number, job in enumerate(jobs)]
        results = supervise(partial(_on_worker, function, threads), numbered, [""] * workers, _lost)
        yield from _in_order(results)


@dataclass(frozen=True)
class _Job:
    """A job under its number, which is what worker processes call a slide id."""

    slide_id: str
    job: Any


@dataclass(frozen=True)
class _Result:
    """The value of a job, or the error that it raised."""

    slide_id: str
    value: Any = None
    error: Exception | None = None


def _on_worker(
    function: Callable[[Any], Any], threads: int, jobs: Iterator[_Job], place: str
) -> Iterator[_Result]:
    _use_threads(threads)
    for numbered in jobs:
        try:
            yield _Result(numbered.slide_id, function(numbered.job))
        except Exception as error:
            yield _Result(numbered.slide_id, error=portable(error))


def _in_order(results: Iterator[_Result]) -> Iterator[Any]:
    found: dict[int, _Result] = {}
    following = 0
    with stopped_at_the_end(results):
        for result in results:
            found[int(result.slide_id)] = result
            while following in found:
                value = found.pop(following)
                if value.error is not None:
                    raise value.error
                yield value.value
                following += 1


def _lost(job: _Job, death: Death) -> _Result:
    error = ExecutionError(f"a worker process was lost ({death.reason}): run again to resume")
    return _Result(job.slide_id, error=death.noted(error))


def _use_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)
