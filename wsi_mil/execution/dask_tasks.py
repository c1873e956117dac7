"""What a Dask worker does with a task: it runs it in a child process.

A library that ends its process, an opening that takes too long and a run that is stopped end the child, not
the worker. A child takes the next task of the same stage, so that an encoder is loaded once. Everything here
runs in the Dask worker, except `attempt_slide` and `attempt_job`, which run in the child.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection as connections
from multiprocessing import current_process
from typing import Any

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ExecutionError, MachineError, WsiMilError
from wsi_mil.execution.activity import OPENING, Reported
from wsi_mil.execution.guard import failed, outcome_of, portable
from wsi_mil.execution.processes import Does, Done, Said, Stopped, Wants, Worker, start_worker, stop_workers
from wsi_mil.execution.supervision import Death, death_of, of_main, one_by_one
from wsi_mil.logs import logger

LOOK_S = 0.2
"""So often a task looks whether it is still wanted."""
KEPT_S = 300.0
"""A child that has had no task for so long is stopped when the next task comes."""


@dataclass(frozen=True)
class WorkerResult:
    """The outcome of a slide. node_may_be_at_fault: another worker may succeed. address: of the worker."""

    outcome: Outcome
    node_may_be_at_fault: bool
    address: str = ""


@dataclass(frozen=True)
class JobResult:
    """What a job returned, or the exception that it raised."""

    value: Any
    error: Exception | None = None


class NotWantedError(ExecutionError):
    """The run that submitted a task has ended: its result is not needed."""


class DiedError(ExecutionError):
    """The child that worked on a task has ended."""

    def __init__(self, death: Death, started: bool) -> None:
        super().__init__(death.reason)
        self.death, self.started = death, started


@dataclass
class _Children:
    """The children of this Dask worker. idle: (run, child, since when); busy: the run of each task."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    starting: threading.Lock = field(default_factory=threading.Lock)
    idle: list[tuple[str, Worker[Any], float]] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)


_children = _Children()


def run_slide(
    token: str, function: Callable[[Any], Outcome], stage: str, limit_s: float, job: Any
) -> WorkerResult:
    """Return the outcome of a slide. If the child dies, or opening takes longer than `limit_s`, it failed.

    token: names the stage of the run; `stop_tasks` ends its tasks.
    """
    from distributed import get_worker

    address = str(get_worker().address)
    try:
        found: WorkerResult = run_in_child(token, partial(attempt_slide, function, stage), job, limit_s)
    except NotWantedError:
        raise
    except DiedError as error:
        death = error.death
        cause = death.cause if error.started else "machine"
        return WorkerResult(death.outcome(job.slide_id, stage, cause), cause != "slide", address)
    except WsiMilError as error:  # the child stopped before it took the slide
        at_fault = isinstance(error, ExecutionError | MachineError)
        return WorkerResult(failed(job.slide_id, stage, error), at_fault, address)
    return WorkerResult(found.outcome, found.node_may_be_at_fault, address)


def attempt_slide(function: Callable[[Any], Outcome], stage: str, job: Any) -> WorkerResult:
    """Run a slide's function.

    A WsiMilError is a problem of the slide or of the settings. A MachineError (a full scratch disk) and any
    other exception (of a driver) may be a problem of this node.
    """
    raised: list[Exception] = []

    def remembering(job: Any) -> Outcome:
        try:
            return function(job)
        except Exception as error:
            raised.append(error)
            raise

    outcome = outcome_of(remembering, stage, job)
    own = raised and isinstance(raised[0], WsiMilError) and not isinstance(raised[0], MachineError)
    return WorkerResult(outcome, bool(raised) and not own)


def run_job(token: str, function: Callable[[Any], Any], job: Any) -> Any:
    """Return function(job), or raise its exception. Raises ExecutionError if the child dies."""
    try:
        found: JobResult = run_in_child(token, partial(attempt_job, function), job)
    except DiedError as error:
        title = getattr(job, "title", getattr(function, "__name__", "job"))
        raise error.death.noted(ExecutionError(f"{title}: {error}; run again to resume")) from error
    if found.error is not None:
        raise found.error
    return found.value


def attempt_job(function: Callable[[Any], Any], job: Any) -> JobResult:
    """Return what a job returns, or its exception with the traceback as a note."""
    try:
        return JobResult(function(job))
    except Exception as error:
        return JobResult(None, portable(error))


def stop_tasks(token: str) -> int:
    """Let the tasks of a stage end, and its idle children; return how many tasks still run here."""
    with _children.lock:
        _children.ended.add(token)
        idle = [child for run, child, _ in _children.idle if run == token]
        _children.idle[:] = [entry for entry in _children.idle if entry[0] != token]
        busy = _children.busy.count(token)
    threading.Thread(target=stop_workers, args=(idle,), name="stop children").start()
    return busy


def run_in_child(token: str, function: Callable[[Any], Any], job: Any, limit_s: float = 0.0) -> Any:
    """Return function(job), computed in a child of this Dask worker.

    Raises DiedError if the child dies, NotWantedError if the run has ended or its client is gone, and the
    error that stops the child before it takes the job. What is defined in the script of the submitting
    machine has come here by value; a child could not import it, so it runs in the Dask worker itself.
    """
    from distributed import get_worker

    if of_main(function) or type(job).__module__ == "__main__":
        return function(job)

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return token not in _children.ended and task is not None and task.state != "cancelled"

    with _children.lock:
        _children.busy.append(token)
    try:
        child = _take(token, function)
        try:
            found = _result(child, job, limit_s, is_wanted)
        except BaseException:
            stop_workers([child])
            raise
        _keep(token, child)
        return found
    finally:
        with _children.lock:
            _children.busy.remove(token)


def _take(token: str, function: Callable[[Any], Any]) -> Worker[Any]:
    """Return an idle child of this stage, or a new one."""
    with _children.lock:
        old = time.monotonic() - KEPT_S
        gone = [child for _, child, since in _children.idle if since < old or not child.process.is_alive()]
        _children.idle[:] = [entry for entry in _children.idle if entry[1] not in gone]
        own = next((entry for entry in _children.idle if entry[0] == token), None)
        if own is not None:
            _children.idle.remove(own)
    stop_workers(gone)
    return own[1] if own is not None else _started(function)


def _started(function: Callable[[Any], Any]) -> Worker[Any]:
    with _children.starting:
        # A daemonic process may not start children, since they would outlive it. Ours end with it (see
        # `processes.follow_parent`).
        current_process().daemon = False
        try:
            return start_worker(partial(one_by_one, function), "", None, own_main=False)
        except OSError as error:
            raise ExecutionError(f"no process can be started on this node: {error}") from error


def _keep(token: str, child: Worker[Any]) -> None:
    with _children.lock:
        if token not in _children.ended:
            _children.idle.append((token, child, time.monotonic()))
            return
    stop_workers([child])


def _result(child: Worker[Any], job: Any, limit_s: float, is_wanted: Callable[[], bool]) -> Any:
    """Give the job to a child and return its result."""
    doing, given = Reported(), False
    while True:
        if not is_wanted():
            raise NotWantedError("the run has ended")
        late = time.monotonic() - limit_s
        if limit_s and any(since <= late for since, _ in doing.opening()):
            raise DiedError(Death(0, 0, OPENING, limit_s), given)
        if not connections.wait([child.connection], LOOK_S):
            continue
        match child.receive():
            case Wants():
                child.give(job)
                given = True
            case Does(slide_id, thread, what):
                doing.put(slide_id, thread, what)
            case Said(record):
                logger(record.name).handle(record)
            case Done(result):
                return result
            case Stopped(kind, reason, trace):
                logger().debug("a child stopped:\n%s", trace)
                raise (kind or ExecutionError)(reason)
            case None:
                raise DiedError(death_of(child.end(), doing.of(job.slide_id), child.stack), given)
