"""One process per device. Each asks for its next slide when it is ready: a fast device does more slides."""

from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import WsiMilError
from wsi_mil.execution.guard import reason_of
from wsi_mil.execution.mapping import Job
from wsi_mil.logs import logger
from wsi_mil.trust import with_trust

J = TypeVar("J", bound=Job)
OnDevice = Callable[[Iterator[J], str], Iterator[Outcome]]
"""(iterator of jobs, device) -> outcomes; a module-level function, or a partial of one."""


def map_on_devices(
    function: OnDevice[J], jobs: Sequence[J], devices: Sequence[str], stage: str
) -> Iterator[Outcome]:
    """Yield the outcome of every job, in the order in which they finish.

    Raises WsiMilError for an error that stops a whole device, for example missing weights of the encoder. If
    the process of a device is killed, the slides that it was working on fail; the other processes do the
    rest.
    """
    context = get_context("spawn")  # forking a process that holds a device's driver breaks the driver
    waiting = list(reversed(jobs))
    held: dict[Connection, dict[str, J]] = {}
    processes = []
    try:
        for device in devices:
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(with_trust(function), device, there), daemon=True)
            process.start()
            there.close()
            processes.append(process)
            held[here] = {}
        while held:
            for connection in wait(list(held)):
                assert isinstance(connection, Connection)
                try:
                    kind, value = connection.recv()
                except (EOFError, OSError):
                    for job in held.pop(connection).values():
                        yield Outcome(job.slide_id, stage, "failed", LOST)
                    continue
                if kind == "wants":
                    following = waiting.pop() if waiting else None
                    if following is not None:
                        held[connection][following.slide_id] = following
                    connection.send(following)
                elif kind == "done":
                    del held[connection][value.slide_id]
                    yield value
                elif kind == "stopped":
                    raise WsiMilError(value)
                else:
                    del held[connection]
        for job in reversed(waiting):
            yield Outcome(job.slide_id, stage, "failed", LOST)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


LOST = "the process of its device was killed from outside (out of memory?); run again to resume"


def _work(function: OnDevice[Any], device: str, connection: Connection) -> None:
    def received_jobs() -> Iterator[Any]:
        while True:
            connection.send(("wants", None))
            job = connection.recv()
            if job is None:
                return
            yield job

    try:
        for outcome in function(received_jobs(), device):
            connection.send(("done", outcome))
        connection.send(("ended", None))
    except Exception as error:
        logger().debug("%s stopped", device, exc_info=True)
        connection.send(("stopped", f"{device}: {reason_of(error)}"))
