"""Dask clusters from a block of the configuration: SLURM, PBS, LSF through dask-jobqueue, Kubernetes through dask-kubernetes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import ConfigError
from wsi_mil.logs import logger

JOBQUEUE = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster"}
GPU = "GPU"
"""The resource that workers with a GPU offer and encoding asks for."""


class ClusterSpec(Spec):
    """Jobs to start. Each is one Dask worker with `cores` threads, `memory`, and `gpus` GPUs."""

    kind: Literal["slurm", "pbs", "lsf", "kubernetes"]
    jobs: int = Field(default=1, ge=1, description="workers to start")
    cores: int = Field(default=4, ge=1)
    memory: str = Field(default="32GB", description="of one worker")
    gpus: int = Field(default=0, ge=0, description="of one worker")
    walltime: str = "24:00:00"
    queue: str | None = None
    account: str | None = None
    directives: list[str] = Field(
        default=[], description="more lines for the job's head, e.g. '--gres=gpu:1'"
    )
    prologue: list[str] = Field(
        default=[], description="shell lines before the worker, e.g. 'module load cuda'"
    )
    image: str = Field(default="wsi-mil", description="kubernetes: the container that workers run in")
    namespace: str = Field(default="default", description="kubernetes")

    def plan(self) -> list[str]:
        """Return what would be started, in words."""
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        return [
            f"cluster      {self.jobs} {self.kind} jobs of {self.cores} cores, {self.memory}{gpus}, {self.walltime}"
        ]


def make_cluster(spec: ClusterSpec) -> Any:
    """Return the Dask cluster object, nothing started yet. Raises ConfigError with the package that is missing."""
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
        )
        return KubeCluster(custom_cluster_spec=found, namespace=spec.namespace)
    try:
        import dask_jobqueue
    except ImportError as error:
        raise ConfigError(
            f"execution.cluster.kind={spec.kind} needs: pip install 'wsi-mil[cluster]'"
        ) from error
    kind = getattr(dask_jobqueue, JOBQUEUE[spec.kind])
    # one task at a time in a worker: a slide uses all of its cores
    return kind(
        cores=spec.cores,
        processes=1,
        memory=spec.memory,
        walltime=spec.walltime,
        queue=spec.queue,
        job_extra_directives=_directives(spec),
        job_script_prologue=spec.prologue,
        worker_extra_args=["--nthreads", "1", *resources],
        scheduler_options={"dashboard_address": ":0"},  # another run on this host has the usual port
        **({"account": spec.account} if spec.account else {}),
    )


def _directives(spec: ClusterSpec) -> list[str]:
    if spec.gpus and spec.kind == "slurm" and not any("gpu" in line.lower() for line in spec.directives):
        return [f"--gres=gpu:{spec.gpus}", *spec.directives]
    return list(spec.directives)


@contextmanager
def cluster_client(spec: ClusterSpec) -> Iterator[Any]:
    """Start the jobs, yield a client of theirs, stop them at the end, however it comes."""
    from distributed import Client

    with make_cluster(spec) as cluster:
        cluster.scale(jobs=spec.jobs) if spec.kind != "kubernetes" else cluster.scale(spec.jobs)
        with Client(cluster, set_as_default=False) as client:
            logger().info("%s; dashboard: %s", spec.plan()[0].split(None, 1)[1], client.dashboard_link)
            yield client
