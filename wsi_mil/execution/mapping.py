"""Run one function of a slide for many slides: in worker processes of this machine, or on a Dask cluster."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.execution.dask_backend import map_on_dask
from wsi_mil.execution.guard import outcome_of
from wsi_mil.execution.spec import ExecutionSpec
from wsi_mil.execution.supervision import Death, supervise
from wsi_mil.trust import with_trust


class Job(Protocol):
    """The work on one slide, as values that pickle. The worker opens the files that it names."""

    @property
    def slide_id(self) -> str: ...


J = TypeVar("J", bound=Job)
OnDevice = Callable[[Iterator[J], str], Iterator[Outcome]]
"""(iterator of jobs, device) -> outcomes; a module-level function, or a partial of one."""


def map_slides(
    function: Callable[[J], Outcome], jobs: Sequence[J], *, stage: str, spec: ExecutionSpec
) -> Iterator[Outcome]:
    """Yield one Outcome per job, in the order in which they finish; an exception becomes a failed Outcome.

    function: a module-level function (or a partial of one) of a picklable job; every backend calls the same
    one. Also with one worker it runs in a process of its own: libraries that read slides can end their
    process. A slide whose process dies fails, and the others continue.
    """
    guarded = partial(outcome_of, function, stage)
    if spec.backend == "dask":
        yield from map_on_dask(with_trust(function), jobs, stage, spec)
    else:
        places = [""] * min(spec.resolved_workers(), len(jobs))
        lost = partial(_lost, stage)
        yield from supervise(partial(_one_by_one, guarded), jobs, places, lost, spec.open_timeout_s)


def map_on_devices(
    function: OnDevice[J], jobs: Sequence[J], devices: Sequence[str], stage: str, open_limit_s: float = 0.0
) -> Iterator[Outcome]:
    """Yield the outcome of every job, in the order in which they finish: one process per device.

    Each process asks for its next slide when it is ready: a fast device does more slides. `function` may hold
    several jobs at a time. Raises WsiMilError for an error that stops a whole device, for example missing
    weights of the encoder.
    """
    yield from supervise(function, jobs, devices[: len(jobs)], partial(_lost, stage), open_limit_s)


def _one_by_one(function: Callable[[J], Outcome], jobs: Iterator[J], place: str) -> Iterator[Outcome]:
    yield from map(function, jobs)


def _lost(stage: str, job: Job, death: Death) -> Outcome:
    return Outcome(job.slide_id, stage, "failed", death.reason, death.counts, cause=death.cause)
