"""Give jobs to worker processes, and find out which slide it was when one of them dies."""

import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from multiprocessing import connection as connections
from multiprocessing import current_process
from typing import Any, Protocol, TypeVar

from wsi_mil.contracts.outcome import Cause, Outcome
from wsi_mil.errors import ExecutionError
from wsi_mil.execution.activity import OPENING
from wsi_mil.execution.processes import (
    STOPPED,
    Does,
    Done,
    Ended,
    OnWorker,
    Said,
    Stopped,
    Wants,
    Worker,
    start_worker,
    stop_workers,
)
from wsi_mil.logs import logger

MOST_EARLY_DEATHS = 3
"""So many workers in a row may die before they have taken a job: then the machine is at fault."""


work_in_this_process = False
"""For tests that replace code: functions run here, where the replacement is, and nothing survives a crash."""


class HasSlide(Protocol):
    """A job of one slide."""

    @property
    def slide_id(self) -> str: ...


J = TypeVar("J", bound=HasSlide)
R = TypeVar("R")


@dataclass(frozen=True)
class Death:
    """How the worker of a slide ended. signal: the one that killed it; 0: it ended with `exit_code`, or was
    stopped because opening took longer than `limit_s`. stack: the Python calls at a fault."""

    signal: int
    exit_code: int
    doing: str
    limit_s: float = 0.0
    stack: str = ""

    @property
    def cause(self) -> Cause:
        """Return what is at fault: the system kills a process that needs too much memory with SIGKILL."""
        causes: dict[int, Cause] = {signal.SIGKILL: "memory", signal.SIGTERM: "machine"}
        return causes.get(self.signal, "slide")

    @property
    def counts(self) -> dict[str, int]:
        """Return what outcomes.csv holds of a death: {"signal": 6}. The next run may know it by this."""
        found = {"signal": self.signal, "exit_code": self.exit_code, "opening_limit_s": round(self.limit_s)}
        return {name: number for name, number in found.items() if number}

    @property
    def reason(self) -> str:
        """Return the reason of the failed slide.

        >>> Death(6, 0, "opening").reason
        'killed by signal 6 (SIGABRT) while opening'
        """
        if self.limit_s:
            return f"opening took longer than {self.limit_s:g} s (execution.open_timeout_s)"
        during = f" while {self.doing}" if self.doing else ""
        if not self.signal:
            return f"its process ended with exit code {self.exit_code}{during}"
        name = signal.Signals(self.signal).name if self.signal in set(signal.Signals) else "unknown"
        killed = f"killed by signal {self.signal} ({name}){during}"
        if self.signal == signal.SIGKILL:
            killed += ": out of memory, or ended by somebody? Run again, with fewer execution.workers"
        return killed

    def outcome(self, slide_id: str, stage: str, cause: Cause) -> Outcome:
        """Return the failed Outcome of the slide on which the worker worked."""
        return Outcome(slide_id, stage, "failed", self.reason, self.counts, cause=cause, traceback=self.stack)

    def noted(self, error: ExecutionError) -> ExecutionError:
        """Return the error with the stack of this death as a note of its traceback."""
        if self.stack:
            error.add_note(self.stack)
        return error


def supervise(
    function: OnWorker,
    jobs: Sequence[J],
    places: Sequence[str],
    failed: Callable[[J, Death], R],
    open_limit_s: float = 0.0,
) -> Iterator[R]:
    """Yield the result of every job, in the order in which they finish: one worker process for each place.

    A worker that dies is replaced. If it held one job, the result is `failed(job, death)`. If it held
    several, each of them runs alone in a worker of its own, so that only the slide at fault fails.
    open_limit_s: a worker that takes longer than this to open a slide is killed, and the slide fails; 0: no
    limit.

    Raises ExecutionError if workers die before they take a job, and the error that stops a worker.
    """
    if work_in_this_process or current_process().daemon:  # a worker itself may not start processes
        return function(iter(jobs), places[0]) if jobs else iter(())
    return _Supervision(function, jobs, places, failed, open_limit_s).results()


def stopped_at_the_end(results: Iterable[object]) -> AbstractContextManager[object]:
    """Return a context that stops the workers of `map_slides` or `run_jobs` when it is left.

    Their generator stops them when it is closed. An exception elsewhere does not close it: its traceback
    keeps the generator alive, and the workers would continue after the lock of the run is released.
    """
    return closing(results) if isinstance(results, Generator) else nullcontext()


class _Supervision:
    def __init__(
        self,
        function: OnWorker,
        jobs: Sequence[Any],
        places: Sequence[str],
        failed: Callable[[Any, Death], Any],
        open_limit_s: float,
    ) -> None:
        self.function, self.failed, self.limit_s = function, failed, open_limit_s
        self.waiting, self.suspects = deque(jobs), deque[Any]()
        self.free = list(places)
        self.named = len(places) > 1 and any(places)
        self.own_main = any(type(job).__module__ == "__main__" for job in jobs[:1]) or of_main(function)
        self.workers: dict[Any, Worker[Any]] = {}
        self.early_deaths = 0

    def results(self) -> Iterator[Any]:
        try:
            while self.waiting or self.suspects or self.workers:
                self._start_workers()
                for connection in connections.wait(list(self.workers), self._until_overdue()):
                    yield from self._handle(self.workers[connection])
                self._kill_overdue()
        finally:
            stop_workers(list(self.workers.values()))

    def _start_workers(self) -> None:
        while self.free and (self.suspects or self.waiting):
            only = self.suspects.popleft() if self.suspects else None
            try:
                worker = start_worker(self.function, self.free[-1], only, self.own_main)
            except OSError as error:
                raise ExecutionError(f"no worker process can be started: {error}") from error
            self.free.pop()
            self.workers[worker.connection] = worker

    def _handle(self, worker: Worker[Any]) -> Iterator[Any]:
        match worker.receive():
            case Wants():
                self._give(worker)
            case Does(slide_id, thread, what):
                worker.doing.put(slide_id, thread, what)
            case Done(result):
                worker.held.pop(result.slide_id, None)
                worker.doing.forget(result.slide_id)
                yield result
            case Said(record):
                logger(record.name).handle(record)
            case Stopped(kind, reason, trace):
                logger().debug("a worker stopped:\n%s", trace)
                text = f"{worker.place}: {reason}" if self.named else reason
                raise (kind or ExecutionError)(text)
            case Ended():
                self._remove(worker)
            case None:
                yield from self._died(worker)

    def _give(self, worker: Worker[Any]) -> None:
        if worker.only is not None:
            job = None if worker.took_a_job else worker.only
        else:
            job = self.waiting.popleft() if self.waiting else None
        if job is not None:
            worker.took_a_job = True
            worker.held[job.slide_id] = job
            self.early_deaths = 0
        worker.give(job)

    def _remove(self, worker: Worker[Any]) -> int:
        """Wait for the end of a worker; return its exit code."""
        del self.workers[worker.connection]
        self.free.append(worker.place)
        return worker.end()

    def _died(self, worker: Worker[Any]) -> Iterator[Any]:
        code = self._remove(worker)
        held = list(worker.held.values())
        names = [job.slide_id for job in held]
        logger().debug("a worker died with exit code %d; it held %s\n%s", code, names, worker.stack)
        if worker.overdue is not None:
            for job in held:
                if job.slide_id == worker.overdue:
                    yield self.failed(job, Death(0, 0, OPENING, self.limit_s))
                else:
                    self.waiting.appendleft(job)
        elif len(held) == 1:
            yield self.failed(held[0], death_of(code, worker.doing.of(held[0].slide_id), worker.stack))
        elif held:
            self.suspects.extend(held)
        else:
            if worker.only is not None and not worker.took_a_job:
                self.suspects.append(worker.only)
            self.early_deaths += 1
            if self.early_deaths >= MOST_EARLY_DEATHS:
                raise ExecutionError(
                    f"{self.early_deaths} worker processes ended before their first slide "
                    f"({death_of(code, '').reason}): `wsi-mil -v` shows more"
                )

    def _opening(self) -> Iterator[tuple[float, str, Worker[Any]]]:
        """Yield (since when, slide, worker) of every slide that is being opened."""
        for worker in self.workers.values():
            if worker.overdue is None:
                for since, slide_id in worker.doing.opening():
                    yield since, slide_id, worker

    def _until_overdue(self) -> float | None:
        """Return the seconds until the next opening has taken too long; None if there is none."""
        if not self.limit_s:
            return None
        since = min((since for since, _, _ in self._opening()), default=None)
        return None if since is None else max(since + self.limit_s - time.monotonic(), 0.0)

    def _kill_overdue(self) -> None:
        if not self.limit_s:
            return
        now = time.monotonic()
        for since, slide_id, worker in list(self._opening()):
            if now - since >= self.limit_s and worker.overdue is None:
                worker.overdue = slide_id
                worker.process.kill()


def death_of(code: int, doing: str, stack: str = "") -> Death:
    """Return the death of a worker that ended with an exit code; -N: signal N killed it."""
    if code < 0:
        return Death(-code, 0, doing, stack=stack)
    return Death(signal.SIGTERM, 0, doing) if code == STOPPED else Death(0, code, doing)


def one_by_one(function: Callable[[J], R], jobs: Iterator[J], place: str) -> Iterator[R]:
    """Yield function(job) of every job: a worker that holds one job at a time."""
    yield from map(function, jobs)


def of_main(function: Any) -> bool:
    """Return whether a function, or one that a partial holds, is defined in the running script."""
    parts = [getattr(function, "func", function), *getattr(function, "args", ())]
    nested = [part for part in parts if part is not function and callable(part)]
    return getattr(function, "__module__", "") == "__main__" or any(map(of_main, nested))
