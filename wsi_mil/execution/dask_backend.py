"""Per-slide functions on a Dask cluster: lost workers, trouble of single nodes, and what comes back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ConfigError, WsiMilError
from wsi_mil.logs import logger

if TYPE_CHECKING:
    from wsi_mil.execution.mapping import ExecutionSpec


AHEAD = 2000
"""Slides that the scheduler knows of at a time: its memory does not grow with the cohort, and thousands of workers stay busy."""


def dask_client(spec: "ExecutionSpec") -> AbstractContextManager[Any]:
    """Return a client of the scheduler or the cluster in `spec`, to be used in a with statement."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("execution.backend=dask needs: pip install 'wsi-mil[cluster]'") from error
    if spec.cluster is not None:
        from wsi_mil.execution.clusters import cluster_client

        return cluster_client(spec.cluster)
    if spec.scheduler is None:
        raise ConfigError(
            "execution.backend=dask needs execution.scheduler=HOST:PORT (start one with `dask scheduler`) or execution.cluster"
        )
    client: AbstractContextManager[Any] = Client(spec.scheduler, set_as_default=False)
    return client


def run_on_worker(function: Callable[[Any], Outcome], stage: str, job: Any) -> tuple[Outcome, bool, str]:
    """Run a slide's function in a worker; return its outcome, whether another worker may do better, and this worker's address.

    What our own errors tell is the slide's or the user's; anything else (a full scratch disk, a driver) may be the node's.
    """
    from distributed import get_worker

    from wsi_mil.execution.mapping import run_guarded

    address = str(get_worker().address)
    found: list[Exception] = []

    def noted(job: Any) -> Outcome:
        try:
            return function(job)
        except Exception as error:
            found.append(error)
            raise

    outcome = run_guarded(noted, stage, job)
    return outcome, bool(found) and not isinstance(found[0], WsiMilError), address


def map_on_dask(
    function: Callable[[Any], Outcome], jobs: Sequence[Any], stage: str, spec: "ExecutionSpec"
) -> Iterator[Outcome]:
    """Yield the outcomes as they come. A lost worker's slides run again on others (Dask does that, three times); a slide that a
    node could not do runs again on up to `spec.retries` other nodes."""
    with dask_client(spec) as client:
        from distributed import as_completed

        options = {"resources": {"GPU": 1}} if spec.asks_for_gpu(stage) else {}

        def submit(job: Any, **where: Any) -> Any:
            future = client.submit(run_on_worker, function, stage, job, pure=False, **options, **where)
            held[future] = job
            return future

        held: dict[Any, Any] = {}
        tried: dict[str, set[str]] = {}
        left = iter(jobs)
        running = as_completed([submit(job) for job in islice(left, AHEAD)], loop=client.loop)
        for future in running:
            job = held.pop(future)
            for following in islice(left, 1):
                running.add(submit(following))
            try:
                outcome, elsewhere, address = future.result()
            except (
                Exception
            ) as error:  # the function itself never raises: the worker or the connection was lost
                reason = f"a Dask worker was lost ({type(error).__name__}: {error}); run again to resume"
                yield Outcome(job.slide_id, stage, "failed", " ".join(reason.split()))
                continue
            finally:
                future.release()
            if not elsewhere:
                tried.pop(job.slide_id, None)
                yield outcome
                continue
            tried.setdefault(job.slide_id, set()).add(address)
            others = [
                worker
                for worker in client.scheduler_info(n_workers=-1)["workers"]
                if worker not in tried[job.slide_id]
            ]
            if others and len(tried[job.slide_id]) <= spec.retries:
                logger().warning(
                    "%s: %s failed on %s (%s): another worker tries",
                    stage,
                    job.slide_id,
                    address,
                    outcome.reason,
                )
                running.add(submit(job, workers=others))
                continue
            yield outcome
