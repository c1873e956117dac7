"""What is read from slides arrives in the order of the jobs; slides that fail or end their process are
named."""

import os
import time
from dataclasses import dataclass

import pytest

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import SlideError
from wsi_mil.execution import ExecutionSpec, read_slides


@dataclass(frozen=True)
class Job:
    slide_id: str


def read(job: Job) -> tuple[str, int]:
    if job.slide_id == "first":
        time.sleep(0.5)  # so that another worker finishes before
    if job.slide_id == "aborts":
        os.abort()
    if job.slide_id == "bad":
        raise SlideError("slide 'bad' cannot be opened")
    if job.slide_id == "full":
        raise OSError(28, "No space left on device", "x")
    return job.slide_id, os.getpid()


JOBS = [Job(name) for name in ("first", "aborts", "c", "bad", "b", "full", "a")]
FAILED = {
    "aborts": ("killed by signal 6 (SIGABRT)", "slide"),
    "bad": ("slide 'bad' cannot be opened", "slide"),
    "full": ("No space left on device: x", "machine"),
}


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_failures_are_in_the_order_of_the_jobs(workers: int) -> None:
    found, failed = read_slides(read, JOBS, stage="evaluate m", spec=ExecutionSpec(workers=workers))
    assert [(slide_id, name) for slide_id, (name, _) in found.items()] == [(s, s) for s in ("first", *"cba")]
    assert os.getpid() not in {process for _, process in found.values()}
    assert list(failed) == list(FAILED)
    assert {slide_id: (one.reason, one.cause) for slide_id, one in failed.items()} == FAILED


def test_an_error_that_nobody_expected_is_shown_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "wsi_mil"):
        _, failed = read_slides(len, JOBS[:1], stage="report", spec=ExecutionSpec(workers=1))
    assert failed["first"].reason == "unexpected TypeError: object of type 'Job' has no len()"
    assert "Traceback (most recent call last)" in caplog.text


def test_without_a_slide_no_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*arguments: object, **options: object) -> Outcome:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("wsi_mil.execution.supervision.start_worker", started)
    assert read_slides(read, [], stage="report", spec=ExecutionSpec(workers=2)) == ({}, {})
    nowhere = ExecutionSpec(backend="dask", scheduler="127.0.0.1:1")
    assert read_slides(read, [], stage="report", spec=nowhere) == ({}, {})


def test_the_same_on_a_dask_cluster() -> None:
    from distributed import LocalCluster

    jobs = [job for job in JOBS if job.slide_id != "aborts"]
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster:
        spec = ExecutionSpec(backend="dask", scheduler=cluster.scheduler_address)
        found, failed = read_slides(read, jobs, stage="evaluate m", spec=spec)
    assert list(found) == ["first", "c", "b", "a"]
    assert [found[slide_id][0] for slide_id in found] == list(found)
    assert {s: (one.reason, one.cause) for s, one in failed.items()} == {
        s: FAILED[s] for s in ("bad", "full")
    }
