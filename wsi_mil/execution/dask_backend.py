"""Run one function for many slides on a Dask cluster; lost workers and failing nodes do not stop the run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ConfigError, MachineError, WsiMilError, one_line
from wsi_mil.execution.guard import outcome_of, traceback_of
from wsi_mil.logs import logger

if TYPE_CHECKING:
    from wsi_mil.execution.spec import ExecutionSpec

QUEUE_LENGTH = 2000
"""How many slides the scheduler knows at a time: enough for thousands of workers, and its memory does not
grow with the cohort."""


def dask_client(spec: "ExecutionSpec") -> AbstractContextManager[Any]:
    """Return a client of the scheduler or the cluster in `spec`, to be used in a with statement.

    Raises ConfigError if `distributed` is not installed, or if `spec` names neither scheduler nor cluster.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("execution.backend=dask needs: pip install 'wsi-mil[cluster]'") from error
    if spec.cluster is not None:
        from wsi_mil.execution.clusters import cluster_client

        return cluster_client(spec.cluster)
    if spec.scheduler is None:
        raise ConfigError(
            "execution.backend=dask needs execution.scheduler=HOST:PORT (start one with `dask scheduler`) "
            "or execution.cluster"
        )
    client: AbstractContextManager[Any] = Client(spec.scheduler, set_as_default=False)
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
    function: Callable[[Any], Outcome],
    jobs: Sequence[Any],
    stage: str,
    spec: "ExecutionSpec",
    gpu: Callable[[Any], bool],
) -> Iterator[Outcome]:
    """Yield the outcomes in the order in which they finish. `gpu(job)`: whether a job needs a worker with a
    GPU.

    Dask runs the slides of a lost worker again on other workers, three times. A slide that may have failed
    because of its node runs again on up to `spec.retries` other nodes. Workers with a GPU are those that were
    started with `--resources GPU=1`.
    """
    with dask_client(spec) as client:
        queue = _Queue(client, function, stage, spec, gpu)
        waiting = iter(jobs)
        from distributed import as_completed

        running = as_completed([queue.submit(job) for job in islice(waiting, QUEUE_LENGTH)], loop=client.loop)
        for future in running:
            for following in islice(waiting, 1):
                running.add(queue.submit(following))
            found = queue.take(future)
            if isinstance(found, Outcome):
                yield found
            else:
                running.add(found)


class _Queue:
    """Jobs that a Dask client has submitted, and the workers that have tried each slide."""

    def __init__(
        self,
        client: Any,
        function: Callable[[Any], Outcome],
        stage: str,
        spec: "ExecutionSpec",
        gpu: Callable[[Any], bool],
    ) -> None:
        self.client, self.function, self.stage, self.spec, self.gpu = client, function, stage, spec, gpu
        self.jobs: dict[Any, Any] = {}
        self.tried: dict[str, set[str]] = {}

    def submit(self, job: Any, **options: Any) -> Any:
        if self.gpu(job):
            options["resources"] = {"GPU": 1}
        future = self.client.submit(run_on_worker, self.function, self.stage, job, pure=False, **options)
        self.jobs[future] = job
        return future

    def take(self, future: Any) -> Any:
        """Return the Outcome of a finished future, or the future of its next try on another worker."""
        job = self.jobs.pop(future)
        try:
            result: WorkerResult = future.result()
        except Exception as error:  # `run_on_worker` never raises: the worker or the connection was lost
            reason = one_line(
                f"a Dask worker was lost ({type(error).__name__}: {error}); run again to resume"
            )
            found = traceback_of(error)
            return Outcome(job.slide_id, self.stage, "failed", reason, cause="memory", traceback=found)
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
