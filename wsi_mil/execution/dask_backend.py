"""Run one function for many slides on a Dask cluster; lost workers and failing nodes do not stop the run."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable
from uuid import uuid4

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ConfigError, ExecutionError, one_line
from wsi_mil.execution.clusters import GPU, cluster_client
from wsi_mil.execution.dask_tasks import LOOK_S, WorkerResult, run_job, run_slide, stop_tasks
from wsi_mil.execution.guard import traceback_of
from wsi_mil.execution.missing_workers import MissingWorkers
from wsi_mil.execution.processes import STOPS_WITHIN_S
from wsi_mil.logs import logger

if TYPE_CHECKING:
    from wsi_mil.execution.spec import ExecutionSpec

FEWEST_OPEN = 16
"""The scheduler has so many tasks at a time, or twice as many as the workers have threads. When a worker
dies, all tasks that it was given are suspects."""


@runtime_checkable
class GpuJob(Protocol):
    """A job that says whether it needs a worker with a GPU. Other jobs need none."""

    @property
    def needs_gpu(self) -> bool: ...


def needs_gpu(job: Any) -> bool:
    """Return whether a job must run on a worker with a GPU: one started with `--resources GPU=1`."""
    return isinstance(job, GpuJob) and job.needs_gpu


def dask_client(spec: "ExecutionSpec") -> AbstractContextManager[Any]:
    """Return a client of the scheduler or the cluster in `spec`, to be used in a with statement.

    Raises ConfigError if `distributed` is not installed, if `spec` names neither scheduler nor cluster, or if
    the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("execution.backend=dask needs: pip install 'wsi-mil[cluster]'") from error
    if spec.cluster is not None:
        return cluster_client(spec.cluster)
    if spec.scheduler is None:
        raise ConfigError(
            "execution.backend=dask needs execution.scheduler=HOST:PORT (start one with `dask scheduler`) "
            "or execution.cluster"
        )
    try:
        client: AbstractContextManager[Any] = Client(spec.scheduler, set_as_default=False)
    except OSError as error:
        raise ConfigError(
            f"execution.scheduler={spec.scheduler}: no Dask scheduler answers there: start one with "
            "`dask scheduler` and give the address that it prints"
        ) from error
    return client


class Tasks:
    """The open tasks of one stage on a Dask cluster, to be used in a with statement.

    Leaving it, also by an exception or a signal, cancels what is open and waits until the workers have
    stopped: the lock of the run is released after that.
    """

    def __init__(self, client: Any, spec: "ExecutionSpec", stage: str) -> None:
        self.client, self.stage, self.token = client, stage, uuid4().hex
        self.jobs: dict[Any, Any] = {}
        self.workers = MissingWorkers(client, spec, stage)

    def __enter__(self) -> Self:
        self.workers.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._stop()
        finally:
            self.workers.__exit__(*error)

    @property
    def free_slots(self) -> int:
        """How many more tasks may be submitted now."""
        return max(max(FEWEST_OPEN, 2 * self.workers.threads) - len(self.jobs), 0)

    def submit(self, function: Callable[..., Any], *arguments: Any, job: Any, **options: Any) -> Any:
        """Submit function(token, *arguments, job); return its future. A job that needs a GPU asks for one."""
        resources = {"resources": {GPU: 1}} if needs_gpu(job) else {}
        future = self.client.submit(function, self.token, *arguments, job, pure=False, **resources, **options)
        self.jobs[future] = job
        self.workers.open[needs_gpu(job)] += 1
        return future

    def take(self, future: Any) -> Any:
        """Return the job of a future that has finished."""
        job = self.jobs.pop(future)
        self.workers.open[needs_gpu(job)] -= 1
        return job

    def _stop(self) -> None:
        deadline = time.monotonic() + 2 * STOPS_WITHIN_S
        try:
            self.client.cancel(list(self.jobs))
            while self.client.status == "running":
                found = self.client.run(stop_tasks, self.token, on_error="return")
                if not (left := sum(n for n in found.values() if isinstance(n, int))):
                    return
                if time.monotonic() > deadline:
                    logger().warning("%s: %d tasks still run on Dask workers", self.stage, left)
                    return
                time.sleep(LOOK_S)
        except Exception:  # the scheduler is gone: its workers end, and their tasks with them
            logger().debug("%s: the Dask workers do not answer", self.stage, exc_info=True)


def map_on_dask(
    function: Callable[[Any], Outcome], jobs: Sequence[Any], stage: str, spec: "ExecutionSpec"
) -> Iterator[Outcome]:
    """Yield the outcomes in the order in which they finish.

    Jobs that need a GPU run only on workers that were started with `--resources GPU=1`. A slide whose process
    dies fails. A slide that may have failed because of its node runs again on up to `spec.retries` other
    nodes. Dask runs the slides of a lost worker again on other workers. A slide whose workers died as often
    as the scheduler allows is only a suspect, since others were given to the same workers: it runs again at
    the end, alone, and fails if its workers die then, too.
    """
    with dask_client(spec) as client, Tasks(client, spec, stage) as tasks:
        from distributed import as_completed

        queue = _Queue(tasks, function, spec)
        waiting = iter(jobs)
        first = [queue.submit(job) for job in islice(waiting, tasks.free_slots)]
        running = as_completed(first, loop=client.loop)
        for future in running:
            found = queue.take(future)
            for following in islice(waiting, tasks.free_slots):
                running.add(queue.submit(following))
            if isinstance(found, Outcome):
                yield found
            elif found is not None:
                running.add(found)
        queue.alone = True
        for job in queue.suspects:
            running = as_completed([queue.submit(job)], loop=client.loop)
            for future in running:
                found = queue.take(future)
                if isinstance(found, Outcome):
                    yield found
                else:
                    running.add(found)


def run_on_dask(function: Callable[[Any], Any], jobs: Sequence[Any], spec: "ExecutionSpec") -> Iterator[Any]:
    """Yield function(job) of every job, in their order; jobs that need a GPU run on workers with one.

    An exception of a job is raised in the place of its result, and the jobs after it are cancelled. Raises
    ExecutionError if the process of a job, or its workers, die.
    """
    from distributed.scheduler import KilledWorker

    name = getattr(function, "__name__", "jobs")
    with dask_client(spec) as client, Tasks(client, spec, name) as tasks:
        futures = [tasks.submit(run_job, function, job=job) for job in jobs]
        for job, future in zip(jobs, futures, strict=True):
            try:
                found = future.result()
            except KilledWorker as error:
                title = getattr(job, "title", name)
                raise ExecutionError(f"{title}: {killed(error)}; run again to resume") from error
            tasks.take(future)
            yield found


def killed(error: Any) -> str:
    """Return in words what a KilledWorker of distributed says."""
    return (
        f"its Dask worker ended {error.allowed_failures + 1} times (out of memory, or ended from outside: "
        "see the log of the worker)"
    )


class _Queue:
    """The slides of a stage: which workers have tried each, and which are suspected of killing workers."""

    def __init__(self, tasks: Tasks, function: Callable[[Any], Outcome], spec: "ExecutionSpec") -> None:
        self.tasks, self.function, self.stage, self.spec = tasks, function, tasks.stage, spec
        self.tried: dict[str, set[str]] = {}
        self.suspects: list[Any] = []
        self.alone = False

    def submit(self, job: Any, **options: Any) -> Any:
        limit_s = self.spec.open_timeout_s
        return self.tasks.submit(run_slide, self.function, self.stage, limit_s, job=job, **options)

    def take(self, future: Any) -> Any:
        """Return the Outcome of a finished future; the future of its next try on another worker; or None for
        a suspect."""
        from distributed.scheduler import KilledWorker

        job = self.tasks.take(future)
        try:
            result: WorkerResult = future.result()
        except KilledWorker as error:
            if not self.alone:
                logger().debug("%s: %s: its Dask workers died", self.stage, job.slide_id, exc_info=True)
                self.suspects.append(job)
                return None
            counts, found = {"killed_workers": error.allowed_failures + 1}, traceback_of(error)
            return Outcome(job.slide_id, self.stage, "failed", killed(error), counts, traceback=found)
        except Exception as error:  # the scheduler or the connection was lost
            reason = one_line(f"lost on Dask ({type(error).__name__}: {error}); run again to resume")
            found = traceback_of(error)
            return Outcome(job.slide_id, self.stage, "failed", reason, cause="machine", traceback=found)
        finally:
            future.release()
        if not result.node_may_be_at_fault:
            self.tried.pop(job.slide_id, None)
            return result.outcome
        tried = self.tried.setdefault(job.slide_id, set())
        tried.add(result.address)
        others = [w for w in self.tasks.client.scheduler_info(n_workers=-1)["workers"] if w not in tried]
        if not others or len(tried) > self.spec.retries:
            return result.outcome
        logger().warning(
            "%s: %s failed on %s (%s): another worker tries",
            self.stage,
            job.slide_id,
            result.address,
            result.outcome.reason,
        )
        logger().debug("%s", result.outcome.traceback)
        return self.submit(job, workers=others)
