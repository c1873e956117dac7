"""A Dask scheduler without workers, and `dask worker` processes as a user starts them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wsi_mil.execution import ExecutionSpec

StartWorker = Callable[..., "subprocess.Popen[bytes]"]


@contextmanager
def scheduler_and_workers() -> Iterator[tuple[ExecutionSpec, StartWorker]]:
    """Yield the settings of a scheduler that has no worker, and a function that starts `dask worker`.

    The function takes options of the command, for example "--resources", "GPU=1", and environment variables.
    """
    from distributed import LocalCluster

    started = []
    with LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address

        def start(*options: str, **variables: str) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
            process = subprocess.Popen(
                [*command, "--no-dashboard", *options],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            started.append(process)
            return process

        try:
            yield ExecutionSpec(backend="dask", scheduler=address), start
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(30)
