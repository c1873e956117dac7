"""Say that tasks wait for a Dask worker that is not there, and how to start one."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from wsi_mil.execution.clusters import GPU
from wsi_mil.logs import logger

if TYPE_CHECKING:
    from wsi_mil.execution.spec import ExecutionSpec

FIRST_REPORT_S = 30.0
"""After so long without a worker the first report; the interval doubles with each report."""
LOOK_S = 2.0


class MissingWorkers:
    """While it is entered, a thread reports open tasks for which the scheduler has no worker.

    `open`: the number of open tasks by whether they need a GPU; the caller counts them. `threads`: of all
    workers at the last look.
    """

    def __init__(self, client: Any, spec: "ExecutionSpec", stage: str) -> None:
        self.client, self.spec, self.stage = client, spec, stage
        self.open: Counter[bool] = Counter()
        self.threads = 0
        self._absent = {gpu: _Absence() for gpu in (False, True)}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="missing workers", daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        while not self._ended.wait(min(LOOK_S, FIRST_REPORT_S / 4)):
            try:
                self._look()
            except Exception:  # the scheduler is gone: the tasks fail by themselves and say so
                logger().debug("%s: the Dask scheduler does not answer", self.stage, exc_info=True)

    def _look(self) -> None:
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        self.threads = sum(worker["nthreads"] for worker in workers.values())
        for gpu, absence in self._absent.items():
            waiting = self.open[gpu]
            absent = waiting > 0 and not any(not gpu or _has_gpu(worker) for worker in workers.values())
            if absence.is_due(absent):
                way_out = self._way_out(gpu, len(workers))
                logger().warning("%s", missing(self.stage, waiting, gpu, len(workers), way_out))
            elif absence.ended:
                logger().info("%s: a worker has come, it continues", self.stage)

    def _way_out(self, gpu: bool, workers: int) -> str:
        cluster = self.spec.cluster
        if cluster is not None:
            return (
                f"{max(cluster.jobs - workers, 0)} of {cluster.jobs} {cluster.kind} jobs are pending or have "
                f"ended: look with `{cluster.look}`"
            )
        return f"start one with `{worker_command(self.client.scheduler.address, gpu)}`"


class _Absence:
    """How long there has been no worker, and when that is reported next."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.interval = FIRST_REPORT_S
        self.reported = self.ended = False

    def is_due(self, absent: bool) -> bool:
        """Return whether to report now; call it at every look. `ended`: a reported absence has just ended."""
        now = time.monotonic()
        if not absent:
            self.ended, self.reported, self.since, self.interval = self.reported, False, None, FIRST_REPORT_S
            return False
        self.since = now if self.since is None else self.since
        if now - self.since < self.interval:
            return False
        self.reported, self.since, self.interval = True, now, 2 * self.interval
        return True


def _has_gpu(worker: Mapping[str, Any]) -> bool:
    return bool((worker.get("resources") or {}).get(GPU, 0) >= 1)


def worker_command(scheduler: str, gpu: bool) -> str:
    """Return the command that starts a worker of a scheduler.

    >>> worker_command("tcp://10.0.0.1:8786", gpu=True)
    'dask worker tcp://10.0.0.1:8786 --nthreads 1 --resources GPU=1'
    """
    return f"dask worker {scheduler} --nthreads 1" + (f" --resources {GPU}=1" if gpu else "")


def missing(stage: str, waiting: int, gpu: bool, workers: int, way_out: str) -> str:
    """Return the report in one line.

    >>> missing("extract", 12, True, 3, "start one")
    'extract: 12 tasks wait for a Dask worker with a GPU; there are 3 workers, none with a GPU: start one'
    """
    wanted = "a Dask worker with a GPU" if gpu else "a Dask worker"
    there = f"there are {workers} workers, none with a GPU" if workers else "there is none"
    return f"{stage}: {waiting} tasks wait for {wanted}; {there}: {way_out}"
