"""One worker process: how it is started, what it takes over from this process, how it is stopped.

A worker asks for one job after the other and sends back results, log records and what it is doing. Workers
are forked from a server process (multiprocessing's forkserver), which imports the large libraries once.
"""

import faulthandler
import logging
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from logging.handlers import QueueHandler
from multiprocessing import connection as connections
from multiprocessing import (
    forkserver,
    get_all_start_methods,
    get_context,
    parent_process,
    resource_tracker,
)
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

from wsi_mil.errors import WsiMilError
from wsi_mil.execution.activity import Reported, report_to
from wsi_mil.execution.guard import reason_of
from wsi_mil.logs import logger
from wsi_mil.trust import safe_path, with_trust

J = TypeVar("J")
OnWorker = Callable[[Iterator[Any], str], Iterator[Any]]
"""(iterator of jobs, place) -> results; a module-level function, or a partial of one. The place is the device
that the worker uses, or ""."""
STOPPED = 128 + signal.SIGTERM
"""Exit code of a worker that was asked to stop."""
STOPS_WITHIN_S = 10.0
LIBRARIES = ("torch", "timm", "cv2", "tiffslide", "skimage", "scipy", "zarr", "pandas", "h5py")
"""Large libraries that the server imports if this process has imported them."""
FOR_SLIDES = ("wsi_mil.slides.readers.jpeg_tiles", "openslide", "pydicom", "PIL.Image", "scipy.spatial")
"""What readers of slides import when they open the first one. The server imports it, so that not every worker
does."""

_needed: set[str] = set()


class Wants(NamedTuple):
    """The worker is ready for its next job."""


class Does(NamedTuple):
    """What a thread of the worker does with a slide from now on; "" for nothing more."""

    slide_id: str
    thread: int
    what: str


class Done(NamedTuple):
    """A result, whose `slide_id` is that of its job."""

    result: Any


class Said(NamedTuple):
    """A log record."""

    record: logging.LogRecord


class Stopped(NamedTuple):
    """An error that is not one of a slide: the worker cannot continue. kind: its class, if it is our own."""

    kind: type[WsiMilError] | None
    reason: str
    traceback: str


class Ended(NamedTuple):
    """The worker got no further job and has finished those that it had."""


Message = Wants | Does | Done | Said | Stopped | Ended


@dataclass
class Worker(Generic[J]):
    """A running worker. held: its unfinished jobs by slide.

    faults: the pipe into which a fault of the process (SIGSEGV, SIGABRT ..) writes its stack.
    doing: what its threads do with slides.
    only: the one job that it may take; None: it takes jobs as long as there are some.
    overdue: the slide whose opening has taken too long.
    stack: after the end, the Python calls of all threads at a fault; "" without a fault.
    """

    place: str
    process: BaseProcess
    connection: Connection
    faults: Connection
    only: J | None = None
    held: dict[str, J] = field(default_factory=dict)
    doing: Reported = field(default_factory=Reported)
    took_a_job: bool = False
    overdue: str | None = None
    stack: str = ""

    def receive(self) -> Message | None:
        """Return the next message; None if the process has ended."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return None
        return message

    def give(self, job: J | None) -> None:
        """Send the next job, or None: there is no further one."""
        with suppress(OSError):  # the worker has died: `receive` returns None
            self.connection.send(job)

    def end(self) -> int:
        """Wait for a process that is about to end; return its exit code, -N if signal N killed it."""
        self.process.join()
        self.stack = _written(self.faults)
        self.close()
        code = self.process.exitcode
        return 0 if code is None else code

    def close(self) -> None:
        """Close the pipes to a process that has ended."""
        self.connection.close()
        self.faults.close()


def need_in_workers(*modules: str) -> None:
    """Have the server that workers are forked from import `modules`, once a worker is needed."""
    _needed.update(modules)


def start_server(*modules: str) -> None:
    """Start the server that workers are forked from, unless it runs; it imports `modules`, which they need.

    Returns at once: the server imports beside this process, which would otherwise wait at its first worker.
    """
    need_in_workers(*modules)
    _run_server(process_context())


def _run_server(context: Any) -> None:
    """Start the server of a context, unless it runs. Ctrl-C while it imports is left to this process."""
    if context.get_start_method() != "forkserver":
        return
    with _main_module(kept=False), safe_path():
        resource_tracker.ensure_running()  # else the server's start would do it, and unblock the signal
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the server inherits this
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def start_worker(function: OnWorker, place: str, only: J | None, own_main: bool) -> Worker[J]:
    """Return a new worker that runs `function`.

    own_main: function or jobs are defined in the script that is running, so that the worker has to import it.
    """
    context = process_context(_module_of(function))
    here, there = context.Pipe()
    faults, faults_there = context.Pipe(duplex=False)
    setup = Setup(dict(os.environ), logger().getEffectiveLevel())
    process = context.Process(
        target=_work,
        args=(pickle.dumps(with_trust(function)), place, there, faults_there, setup),
        daemon=True,
    )
    _run_server(context)
    with _main_module(kept=own_main), safe_path():
        process.start()
    there.close()
    faults_there.close()
    return Worker(place, process, here, faults, only)


def stop_workers(workers: list[Worker[Any]]) -> None:
    """Ask workers to stop, wait for them, and kill those that do not."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(STOPS_WITHIN_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.close()


@cache
def process_context(module: str = "") -> Any:
    """Return how processes are started: forked from a server that holds none of this process's threads.

    module: what the first worker will run; the server imports it, and what this process has imported.

    A fork of this process itself would deadlock on threads of torch or OpenSlide. On macOS system libraries
    do not survive a fork: there each worker starts from nothing.
    """
    if "forkserver" not in get_all_start_methods() or sys.platform == "darwin":
        return get_context("spawn")
    context = get_context("forkserver")
    own = {name for name in sys.modules if name.startswith("wsi_mil.")}
    libraries = {name for name in LIBRARIES if name in sys.modules}
    context.set_forkserver_preload(sorted({module, *own, *libraries, *_needed, *FOR_SLIDES} - {""}))
    return context


def _module_of(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = next((part for part in (*function.args, function.func) if callable(part)), function.func)
    return str(getattr(function, "__module__", "") or "")


@contextmanager
def _main_module(kept: bool) -> Iterator[None]:
    """Hide the running script from a process that is being started, unless `kept`.

    Otherwise the worker would import the script, and one without `if __name__ == "__main__"` would start
    workers itself.
    """
    main = sys.modules["__main__"]
    if not kept:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@dataclass(frozen=True)
class Setup:
    """What a worker takes over from its parent; the server has what the parent had when it was started."""

    environment: dict[str, str]
    log_level: int

    def apply(self, send: Callable[[Message], None]) -> None:
        """Set up this process as a worker."""
        os.environ.clear()
        os.environ.update(self.environment)
        follow_parent()
        log = logger()
        log.handlers[:] = [_Sending(send)]
        log.setLevel(self.log_level)
        log.propagate = False
        report_to(lambda slide_id, thread, what: send(Does(slide_id, thread, what)))


def follow_parent() -> None:
    """Leave Ctrl-C to the parent of this process, end cleanly on SIGTERM, and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="parent", daemon=True).start()


def _end_with(sentinel: int) -> None:
    connections.wait([sentinel])
    os._exit(1)  # a slide in the middle of its work would otherwise continue for minutes


def _stop(number: int, frame: object) -> None:
    raise SystemExit(STOPPED)  # unlike a kill, this removes half-written files


class _Sending(QueueHandler):
    """Sends log records to the parent, which shows them as its own."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        self.send(Said(record))


def _written(pipe: Connection) -> str:
    """Return what is in a pipe now: a process that the worker has started may still have it open."""
    os.set_blocking(pipe.fileno(), False)
    parts = []
    with suppress(BlockingIOError):
        while part := os.read(pipe.fileno(), 1 << 16):
            parts.append(part)
    return b"".join(parts).decode("ascii", "backslashreplace")


def _work(pickled: bytes, place: str, connection: Connection, faults: Connection, setup: Setup) -> None:
    os.set_blocking(faults.fileno(), False)  # a stack that is too long for the pipe is cut off
    faulthandler.enable(faults.fileno())
    lock = threading.Lock()  # threads of a worker log and open slides

    def send(message: Message) -> None:
        with lock:
            connection.send(message)

    def received_jobs() -> Iterator[Any]:
        while True:
            send(Wants())
            job = connection.recv()
            if job is None:
                return
            yield job

    try:
        setup.apply(send)
        function: OnWorker = pickle.loads(pickled)  # here, so that an error of its import reaches the parent
        for result in function(received_jobs(), place):
            send(Done(result))
        send(Ended())
    except Exception as error:
        kind = type(error) if isinstance(error, WsiMilError) else None
        send(Stopped(kind, reason_of(error), traceback.format_exc()))
