"""Dask clusters as `execution.cluster` describes them: SLURM, PBS, LSF (dask-jobqueue), Kubernetes
(dask-kubernetes)."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import ConfigError
from wsi_mil.logs import logger
from wsi_mil.trust import SAFE_PATH

JOBQUEUE = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster"}
LOOK = {
    "slurm": "squeue --me",
    "pbs": "qstat -u $USER",
    "lsf": "bjobs -w",
    "kubernetes": "kubectl get pods -n {namespace}",
}
PLAIN = r"^[A-Za-z0-9_.@+,:-]+$"
"""These values become lines of a job script: none may end its line or start a command. `directives`,
`prologue` and `image` are free text and need trust (`wsi_mil.config.references`)."""
TRIES = 3
"""A slide fails after so many workers have died with it."""
GPU = "GPU"
"""The Dask resource of workers with a GPU; jobs that need a GPU ask for it."""


class ClusterSpec(Spec):
    """Cluster jobs to start. Each is one Dask worker with `cores` cores, `memory` and `gpus` GPUs."""

    kind: Literal["slurm", "pbs", "lsf", "kubernetes"]
    jobs: int = Field(default=1, ge=1, description="workers to start")
    cores: int = Field(default=4, ge=1)
    memory: str = Field(default="32GB", pattern=r"^[0-9.]+ ?[kKmMgGtT]?i?[bB]?$", description="of one worker")
    gpus: int = Field(default=0, ge=0, description="of one worker")
    walltime: str = Field(default="24:00:00", pattern=r"^[0-9:-]+$")
    queue: str | None = Field(default=None, pattern=PLAIN)
    account: str | None = Field(default=None, pattern=PLAIN)
    directives: list[str] = Field(
        default=[], description="more lines for the job's head, e.g. '--gres=gpu:1'"
    )
    prologue: list[str] = Field(
        default=[], description="shell lines before the worker, e.g. 'module load cuda'"
    )
    image: str = Field(default="wsi-mil", description="kubernetes: the container that workers run in")
    namespace: str = Field(default="default", pattern=PLAIN, description="kubernetes")

    @property
    def look(self) -> str:
        """The command that shows the user's jobs in the queue."""
        return LOOK[self.kind].format(namespace=self.namespace)

    def describe(self) -> str:
        """Return in words which jobs would be started.

        >>> ClusterSpec(kind="slurm", jobs=2, gpus=1).describe()
        '2 slurm jobs of 4 cores, 32GB, 1 GPU, 24:00:00'
        """
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        return f"{self.jobs} {self.kind} jobs of {self.cores} cores, {self.memory}{gpus}, {self.walltime}"


def make_cluster(spec: ClusterSpec) -> Any:
    """Return the Dask cluster object, without any job started. Raises ConfigError if its package is not
    installed."""
    resources = ["--resources", f"{GPU}={spec.gpus}"] if spec.gpus else []
    if spec.kind == "kubernetes":
        try:
            from dask_kubernetes.operator import KubeCluster, make_cluster_spec
        except ImportError as error:
            raise ConfigError(
                "execution.cluster.kind=kubernetes needs: pip install 'wsi-mil[kubernetes]'"
            ) from error
        limits = {
            "cpu": spec.cores,
            "memory": spec.memory,
            **({"nvidia.com/gpu": spec.gpus} if spec.gpus else {}),
        }
        found = make_cluster_spec(
            name="wsi-mil",
            image=spec.image,
            n_workers=0,
            resources={"limits": limits},
            worker_command=["dask-worker", "--nthreads", str(spec.cores), *resources],
            env={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(TRIES - 1)},
        )
        return KubeCluster(custom_cluster_spec=found, namespace=spec.namespace)
    try:
        with _own_ctrl_c():
            import dask_jobqueue
    except ImportError as error:
        raise ConfigError(
            f"execution.cluster.kind={spec.kind} needs: pip install 'wsi-mil[cluster]'"
        ) from error
    kind = getattr(dask_jobqueue, JOBQUEUE[spec.kind])
    # one slide at a time in a worker, because a slide uses all cores of the worker
    return kind(
        cores=spec.cores,
        processes=1,
        memory=spec.memory,
        walltime=spec.walltime,
        queue=spec.queue,
        job_extra_directives=_directives(spec),
        # the job starts in the working folder, whose json.py would come before Python's
        job_script_prologue=[f"export {SAFE_PATH}=1", *spec.prologue],
        worker_extra_args=["--nthreads", "1", *resources],
        # another run on this host may use the default port of the dashboard
        scheduler_options={"dashboard_address": ":0", "allowed_failures": TRIES - 1},
        **({"account": spec.account} if spec.account else {}),
    )


@contextmanager
def _own_ctrl_c() -> Iterator[None]:
    """Keep this program's handling of Ctrl-C: importing dask_jobqueue sets one that ends it with exit code
    0."""
    if threading.current_thread() is not threading.main_thread():
        yield  # the import fails in another thread, since it cannot set its handler there
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _directives(spec: ClusterSpec) -> list[str]:
    if spec.gpus and spec.kind == "slurm" and not any("gpu" in line.lower() for line in spec.directives):
        return [f"--gres=gpu:{spec.gpus}", *spec.directives]
    return list(spec.directives)


@contextmanager
def cluster_client(spec: ClusterSpec) -> Iterator[Any]:
    """Start the jobs, yield their client, and stop the jobs at the end, also after an error."""
    from distributed import Client

    with make_cluster(spec) as cluster:
        cluster.scale(jobs=spec.jobs) if spec.kind != "kubernetes" else cluster.scale(spec.jobs)
        with Client(cluster, set_as_default=False) as client:
            logger().info("%s; dashboard: %s", spec.describe(), client.dashboard_link)
            yield client
