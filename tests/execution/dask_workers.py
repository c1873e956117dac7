"""A Dask scheduler without workers, and `dask worker` processes as a user starts them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

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


def worker_pid() -> int:
    """Return the process of the Dask worker that started this one."""
    worker = parent_process()
    assert worker is not None
    assert worker.pid is not None
    return worker.pid


def kill_worker() -> None:
    """Kill the Dask worker that started this process, which ends with it."""
    os.kill(worker_pid(), signal.SIGKILL)
    time.sleep(60)


def beat(*arguments: object) -> None:
    """Write into the file that the environment variable BEATS names, 50 times a second, without end."""
    while True:
        with open(os.environ["BEATS"], "a") as file:
            file.write(".")
        time.sleep(0.02)
