"""Run one function of a slide for many slides: in this process, in local processes, or on a Dask cluster."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import Protocol, TypeVar

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.execution.dask_backend import map_on_dask
from wsi_mil.execution.guard import outcome_of
from wsi_mil.execution.spec import ExecutionSpec
from wsi_mil.logs import logger, set_level
from wsi_mil.trust import with_trust

WORKERS_PAY_SECONDS = 20.0
"""Worker processes are started if the remaining work would take longer than this: they import torch and more
first."""
WORKER_LOST = "a worker process was killed from outside (out of memory?); run again to resume"


class Job(Protocol):
    """The work on one slide, as values that pickle. The worker opens the files that it names."""

    @property
    def slide_id(self) -> str: ...


J = TypeVar("J", bound=Job)


def map_slides(
    function: Callable[[J], Outcome],
    jobs: Sequence[J],
    *,
    stage: str,
    spec: ExecutionSpec,
    start_here: bool = False,
) -> Iterator[Outcome]:
    """Yield one Outcome per job, in the order in which they finish; an exception becomes a failed Outcome.

    function: a module-level function (or a partial of one) of a picklable job; every backend calls the same
    one. If a worker process is killed, the jobs that it was working on fail.

    start_here: for quick functions. The first jobs run in this process and are timed; worker processes are
    started only if the remaining jobs would take longer than starting them does.
    """
    function = with_trust(function)
    guarded = partial(outcome_of, function, stage)
    if start_here:
        finished = 0
        for outcome in _while_workers_do_not_pay(guarded, jobs):
            finished += 1
            yield outcome
        jobs = jobs[finished:]
    workers = min(spec.resolved_workers(), len(jobs))
    if not jobs and start_here:
        return
    if spec.backend == "dask":
        yield from map_on_dask(function, jobs, stage, spec)
    elif workers <= 1:
        yield from map(guarded, jobs)
    else:
        yield from _in_processes(guarded, jobs, stage, workers)


def _while_workers_do_not_pay(guarded: Callable[[J], Outcome], jobs: Sequence[J]) -> Iterator[Outcome]:
    """Run jobs in this process until the rest would take `WORKERS_PAY_SECONDS`; reused outcomes are not
    timed."""
    worked, seconds = 0, 0.0
    for number, job in enumerate(jobs):
        if worked and seconds / worked * (len(jobs) - number) > WORKERS_PAY_SECONDS:
            return
        started = time.monotonic()
        outcome = guarded(job)
        if not outcome.reused:
            worked += 1
            seconds += time.monotonic() - started
        yield outcome


def _in_processes(
    guarded: Callable[[J], Outcome], jobs: Sequence[J], stage: str, workers: int
) -> Iterator[Outcome]:
    # spawn: forking a process that holds torch's or OpenSlide's threads deadlocks
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=set_level,
        initargs=(logger().getEffectiveLevel(),),
    )
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
                    logger().debug("%s: the process pool broke", stage, exc_info=True)
                    for lost in [job, *running.values(), *waiting]:
                        yield Outcome(lost.slide_id, stage, "failed", WORKER_LOST)
                    return
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
