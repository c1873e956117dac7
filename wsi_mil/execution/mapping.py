"""Run one function of a slide for many slides: in worker processes of this machine, or on a Dask cluster."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.execution.dask_backend import map_on_dask
from wsi_mil.execution.guard import outcome_of
from wsi_mil.execution.spec import ExecutionSpec
from wsi_mil.execution.supervision import Death, one_by_one, supervise
from wsi_mil.logs import logger, progress
from wsi_mil.trust import with_trust


class Job(Protocol):
    """The work on one slide, as values that pickle. The worker opens the files that it names."""

    @property
    def slide_id(self) -> str: ...


J = TypeVar("J", bound=Job)
R = TypeVar("R")
OnDevice = Callable[[Iterator[J], str], Iterator[Outcome]]
"""(iterator of jobs, device) -> outcomes; a module-level function, or a partial of one."""


def map_slides(
    function: Callable[[J], Outcome], jobs: Sequence[J], *, stage: str, spec: ExecutionSpec
) -> Generator[Outcome]:
    """Yield one Outcome per job, in the order in which they finish; an exception becomes a failed Outcome.

    function: a module-level function (or a partial of one) of a picklable job; every backend calls the same
    one. Also with one worker it runs in a process of its own: libraries that read slides can end their
    process. A slide whose process dies fails, and the others continue. Without jobs no worker starts.
    """
    if not jobs:
        return
    guarded = partial(outcome_of, function, stage)
    if spec.backend == "dask":
        yield from map_on_dask(with_trust(function), jobs, stage, spec)
    else:
        places = [""] * min(spec.resolved_workers(), len(jobs))
        lost = partial(_lost, stage)
        yield from supervise(partial(one_by_one, guarded), jobs, places, lost, spec.open_timeout_s)


@dataclass(frozen=True)
class _Found(Outcome):
    """A done Outcome with what was found on the slide."""

    value: Any = None


def read_slides(
    function: Callable[[J], R], jobs: Sequence[J], *, stage: str, spec: ExecutionSpec
) -> tuple[dict[str, R], dict[str, Outcome]]:
    """Return function(job) by slide, and the failed Outcome of the other slides; both in the order of `jobs`.

    For what is read from slides and not written to the run folder. `function`, its jobs and what it returns
    must pickle: it runs as in `map_slides`. Without jobs no worker starts.
    """
    if not jobs:
        return {}, {}
    outcomes: dict[str, Outcome] = {}
    with closing(map_slides(partial(_found, function, stage), jobs, stage=stage, spec=spec)) as running:
        for outcome in progress(running, total=len(jobs), label=stage):
            outcomes[outcome.slide_id] = outcome
            if outcome.traceback:
                logger().debug("%s", outcome.traceback)
    ordered = {job.slide_id: outcomes[job.slide_id] for job in jobs}
    found = {slide_id: one.value for slide_id, one in ordered.items() if isinstance(one, _Found)}
    return found, {slide_id: one for slide_id, one in ordered.items() if slide_id not in found}


def _found(function: Callable[[J], Any], stage: str, job: J) -> Outcome:
    return _Found(job.slide_id, stage, "done", value=function(job))


def map_on_devices(
    function: OnDevice[J], jobs: Sequence[J], devices: Sequence[str], stage: str, open_limit_s: float = 0.0
) -> Iterator[Outcome]:
    """Yield the outcome of every job, in the order in which they finish: one process per device.

    Each process asks for its next slide when it is ready: a fast device does more slides. `function` may hold
    several jobs at a time. Raises WsiMilError for an error that stops a whole device, for example missing
    weights of the encoder.
    """
    yield from supervise(function, jobs, devices[: len(jobs)], partial(_lost, stage), open_limit_s)


def _lost(stage: str, job: Job, death: Death) -> Outcome:
    return death.outcome(job.slide_id, stage, death.cause)
