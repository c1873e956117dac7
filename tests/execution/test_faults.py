"""A process that ends by a fault leaves the stack of its Python calls with the failed slide."""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ExecutionError
from wsi_mil.execution import ExecutionSpec, map_on_devices, map_slides, run_jobs
from wsi_mil.execution.activity import OPENING, activity
from wsi_mil.execution.guard import traceback_of
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.recording import record_outcomes

STAYS_S = 20
ONE = ExecutionSpec(workers=1)


@dataclass(frozen=True)
class Job:
    slide_id: str
    signal: int = signal.SIGABRT


def faulty_library(number: int) -> None:
    signal.raise_signal(number)


def work(job: Job) -> Outcome:
    if job.signal:
        faulty_library(job.signal)
    return Outcome(job.slide_id, "tile", "done")


def work_in_memory_that_is_not_there(job: Job) -> Outcome:
    faulthandler._sigsegv()  # type: ignore[attr-defined]
    return Outcome(job.slide_id, "tile", "done")


def work_in_a_thread(job: Job) -> Outcome:
    thread = threading.Thread(target=faulty_library, args=[job.signal])
    thread.start()
    thread.join()
    return Outcome(job.slide_id, "tile", "done")


def work_in_many_threads(job: Job) -> Outcome:
    """Have a stack of more than 64 kB, which is what a pipe holds."""
    ready = threading.Barrier(61)

    def nested(depth: int) -> None:
        if depth:
            nested(depth - 1)
        else:
            ready.wait()
            threading.Event().wait(60)

    for _ in range(60):
        threading.Thread(target=nested, args=[90], daemon=True).start()
    ready.wait()
    with activity(job.slide_id, OPENING):  # which has a limit: the test ends if the worker does not
        return work(job)


def work_with_a_child_that_stays(job: Job) -> Outcome:
    if os.fork() == 0:
        threading.Event().wait(STAYS_S)
        os._exit(0)
    return work(job)


def on_device(jobs: Iterator[Job], device: str) -> Iterator[Outcome]:
    for job in jobs:
        yield work(job)


def train(job: Job) -> int:
    faulty_library(job.signal)
    return 1


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGBUS"])
def test_the_error_file_of_the_slide_has_the_stack(tmp_path: Path, name: str) -> None:
    run, jobs = RunFolder(tmp_path), [Job("good", 0), Job("bad", getattr(signal, name))]
    record_outcomes(run, "tile", map_slides(work, jobs, stage="tile", spec=ONE), len(jobs))
    text = run.error_file("bad").read_text(encoding="utf-8")
    assert "\ntraceback:\n    Fatal Python error: " in text
    assert "in faulty_library\n" in text
    assert text.index("in faulty_library\n") < text.index("in work\n")
    assert not run.error_file("good").exists()


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (work_in_memory_that_is_not_there, "in work_in_memory_that_is_not_there"),
        (work_in_a_thread, "in faulty_library"),
        (work_in_many_threads, "in nested"),
    ],
)
def test_the_stack_of_a_fault(function: object, named: str) -> None:
    assert callable(function)
    spec = ExecutionSpec(workers=1, open_timeout_s=30)
    [outcome] = map_slides(function, [Job("a")], stage="tile", spec=spec)
    assert named in outcome.traceback
    assert outcome.reason.startswith("killed by signal ")


def test_a_process_that_a_worker_leaves_does_not_hold_up_its_end() -> None:
    started = time.monotonic()
    [outcome] = map_slides(work_with_a_child_that_stays, [Job("a", 0)], stage="tile", spec=ONE)
    assert outcome.status == "done"
    assert time.monotonic() - started < STAYS_S / 2


def test_a_process_of_a_device_has_it_too() -> None:
    [outcome] = map_on_devices(on_device, [Job("a")], ["cpu"], "extract")
    assert "in faulty_library" in outcome.traceback


def test_a_kill_from_outside_leaves_none(tmp_path: Path) -> None:
    jobs = [Job("a", signal.SIGKILL), *(Job(f"s{number}", 0) for number in range(3))]
    run = RunFolder(tmp_path)
    record_outcomes(run, "tile", map_slides(work, jobs, stage="tile", spec=ONE), len(jobs))
    assert "no traceback: its process ended" in run.error_file("a").read_text(encoding="utf-8")


def test_the_error_of_a_training_has_it_as_a_note() -> None:
    with pytest.raises(ExecutionError, match="SIGABRT") as caught:
        list(run_jobs(train, [Job("a"), Job("b")], spec=ExecutionSpec(workers=2)))
    assert "in faulty_library" in traceback_of(caught.value)
