"""Run one function for many slides on a Dask cluster; lost workers and failing nodes do not stop the run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ConfigError, ExecutionError, MachineError, WsiMilError, one_line
from wsi_mil.execution.clusters import GPU, cluster_client
from wsi_mil.execution.guard import outcome_of, traceback_of
from wsi_mil.execution.missing_workers import MissingWorkers
from wsi_mil.logs import logger

if TYPE_CHECKING:
    from wsi_mil.execution.spec import ExecutionSpec

FEWEST_OPEN = 16
"""The scheduler knows so many tasks at a time, or twice as many as the workers have threads. When a worker
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


@dataclass(frozen=True)
class WorkerResult:
    """What a Dask worker returns. `node_may_be_at_fault`: another worker may succeed with this slide."""

    outcome: Outcome
    node_may_be_at_fault: bool
    address: str


def run_on_worker(function: Callable[[Any], Outcome], stage: str, job: Any) -> WorkerResult:
    """Run a slide's function in a Dask worker.

    A WsiMilError is a problem of the slide or of the settings. A MachineError (a full scratch disk) and any
    other exception (of a driver) may be a problem of this node.
    """
    from distributed import get_worker

    raised: list[Exception] = []

    def remembering(job: Any) -> Outcome:
        try:
            return function(job)
        except Exception as error:
            raised.append(error)
            raise

    outcome = outcome_of(remembering, stage, job)
    own = raised and isinstance(raised[0], WsiMilError) and not isinstance(raised[0], MachineError)
    at_fault = bool(raised) and not own
    return WorkerResult(outcome, at_fault, str(get_worker().address))


def map_on_dask(
    function: Callable[[Any], Outcome], jobs: Sequence[Any], stage: str, spec: "ExecutionSpec"
) -> Iterator[Outcome]:
    """Yield the outcomes in the order in which they finish.

    Jobs that need a GPU run only on workers that were started with `--resources GPU=1`. A slide that may have
    failed because of its node runs again on up to `spec.retries` other nodes. Dask runs the slides of a lost
    worker again on other workers. A slide whose workers died as often as the scheduler allows is only a
    suspect, since others were given to the same workers: it runs again at the end, alone, and fails if its
    workers die then, too.
    """
    with dask_client(spec) as client, MissingWorkers(client, spec, stage) as workers:
        from distributed import as_completed

        queue = _Queue(client, function, stage, spec, workers)
        waiting = iter(jobs)
        running = as_completed([queue.submit(job) for job in islice(waiting, queue.room())], loop=client.loop)
        for future in running:
            found = queue.take(future)
            for following in islice(waiting, queue.room()):
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
    ExecutionError if the workers of a job die.
    """
    from distributed.scheduler import KilledWorker

    name = getattr(function, "__name__", "jobs")
    with dask_client(spec) as client, MissingWorkers(client, spec, name) as workers:
        workers.open.update(map(needs_gpu, jobs))
        futures = [client.submit(function, job, pure=False, **_resources(job)) for job in jobs]
        try:
            for job, future in zip(jobs, futures, strict=True):
                try:
                    yield future.result()
                except KilledWorker as error:
                    raise ExecutionError(
                        f"{getattr(job, 'title', name)}: {killed(error)}; run again to resume"
                    ) from error
                workers.open[needs_gpu(job)] -= 1
        finally:
            client.cancel(futures)


def killed(error: Any) -> str:
    """Return in words what a KilledWorker of distributed says."""
    return (
        f"killed its Dask worker {error.allowed_failures + 1} times (a library ended it, or out of memory: "
        "see the log of the worker)"
    )


def _resources(job: Any) -> dict[str, Any]:
    return {"resources": {GPU: 1}} if needs_gpu(job) else {}


class _Queue:
    """Jobs that a Dask client has submitted, the workers that have tried each slide, and the slides that are
    suspected of killing workers."""

    def __init__(
        self,
        client: Any,
        function: Callable[[Any], Outcome],
        stage: str,
        spec: "ExecutionSpec",
        workers: MissingWorkers,
    ) -> None:
        self.client, self.function, self.stage, self.spec = client, function, stage, spec
        self.workers = workers
        self.jobs: dict[Any, Any] = {}
        self.tried: dict[str, set[str]] = {}
        self.suspects: list[Any] = []
        self.alone = False

    def room(self) -> int:
        """Return how many more tasks may be submitted now."""
        return max(max(FEWEST_OPEN, 2 * self.workers.threads) - len(self.jobs), 0)

    def submit(self, job: Any, **options: Any) -> Any:
        future = self.client.submit(
            run_on_worker, self.function, self.stage, job, pure=False, **_resources(job), **options
        )
        self.jobs[future] = job
        self.workers.open[needs_gpu(job)] += 1
        return future

    def take(self, future: Any) -> Any:
        """Return the Outcome of a finished future; the future of its next try on another worker; or None for
        a suspect."""
        from distributed.scheduler import KilledWorker

        job = self.jobs.pop(future)
        self.workers.open[needs_gpu(job)] -= 1
        try:
            result: WorkerResult = future.result()
        except KilledWorker as error:
            if not self.alone:
                logger().debug("%s: %s: its Dask workers died", self.stage, job.slide_id, exc_info=True)
                self.suspects.append(job)
                return None
            counts, found = {"killed_workers": error.allowed_failures + 1}, traceback_of(error)
            return Outcome(job.slide_id, self.stage, "failed", killed(error), counts, traceback=found)
        except Exception as error:  # `run_on_worker` never raises: the scheduler or the connection was lost
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
        others = [w for w in self.client.scheduler_info(n_workers=-1)["workers"] if w not in tried]
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
