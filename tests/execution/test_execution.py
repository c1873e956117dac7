"""One function for many slides and jobs: here, in processes and on Dask, with the same outcomes."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ConfigError, DataError, ExecutionError, SlideError
from wsi_mil.execution import ExecutionSpec, map_slides, run_jobs
from wsi_mil.run.outcomes import OutcomeTable, problem_table


@dataclass(frozen=True)
class Job:
    slide_id: str


def work(job: Job) -> Outcome:
    if job.slide_id == "bad":
        raise SlideError("slide 'bad' cannot be opened")
    if job.slide_id == "bug":
        raise ZeroDivisionError("oh")
    if job.slide_id == "full":
        raise OSError(28, "No space left on device", "x.zarr")
    if job.slide_id == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(job.slide_id, "s", "done", digest=job.slide_id * 2)


JOBS = [Job(name) for name in ("a", "bad", "b", "bug", "full", "c")]
EXPECTED = {
    "a": ("done", ""),
    "b": ("done", ""),
    "c": ("done", ""),
    "bad": ("failed", "slide 'bad' cannot be opened"),
    "bug": ("failed", "unexpected ZeroDivisionError: oh"),
    "full": ("failed", "No space left on device: x.zarr"),
}


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_slide_never_stops_the_others(workers: int) -> None:
    found = map_slides(work, JOBS, stage="s", spec=ExecutionSpec(workers=workers))
    assert {o.slide_id: (o.status, o.reason) for o in found} == EXPECTED


def test_the_same_on_a_dask_cluster() -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster:
        spec = ExecutionSpec(backend="dask", scheduler=cluster.scheduler_address)
        found = list(map_slides(work, JOBS, stage="s", spec=spec))
    assert {o.slide_id: (o.status, o.reason) for o in found} == EXPECTED
    with pytest.raises(ConfigError, match="scheduler=HOST:PORT"):
        list(map_slides(work, JOBS, stage="s", spec=ExecutionSpec(backend="dask")))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_fails_its_slide_and_no_other(workers: int) -> None:
    jobs = [Job("a"), Job("killed"), *(Job(f"s{i}") for i in range(6))]
    found = {o.slide_id: o for o in map_slides(work, jobs, stage="s", spec=ExecutionSpec(workers=workers))}
    assert set(found) == {job.slide_id for job in jobs}
    assert [name for name, outcome in found.items() if outcome.status == "failed"] == ["killed"]
    assert found["killed"].reason.startswith("killed by signal 9 (SIGKILL): out of memory")


def test_the_table_of_outcomes_keeps_the_newest_and_is_read_again(tmp_path: Path) -> None:
    ledger = OutcomeTable(tmp_path / "outcomes.csv")
    ledger.put(Outcome("a", "tile", "failed", 'why, "quoted"\nand more', {"tiles": 3}, "d", 1.5))
    ledger.put(Outcome("b", "tile", "done"))
    ledger.save()
    again = OutcomeTable(tmp_path / "outcomes.csv")
    assert again.get("a", "tile") == ledger.get("a", "tile")
    assert [row.slide_id for row in again.problems()] == ["a"]
    again.put(Outcome("a", "tile", "done"))
    assert again.summary("tile") == "2 done"
    assert "why" in problem_table(ledger.problems())
    again.keep_only({"b"})
    assert [row.slide_id for row in again.rows()] == ["b"]


def test_an_outcome_without_a_reason_is_refused() -> None:
    with pytest.raises(DataError, match="reason must be given where the status is failed"):
        Outcome("a", "s", "failed")


def square(number: int) -> int:
    if number == 7:
        raise DataError("no sevens")
    if number == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_jobs_come_back_in_their_order(workers: int) -> None:
    spec = ExecutionSpec(workers=workers, threads=1)
    assert list(run_jobs(square, range(6), spec=spec)) == [0, 1, 4, 9, 16, 25]
    assert list(run_jobs(square, [], spec=spec)) == []
    results = run_jobs(square, [2, 7, 3], spec=spec)
    assert next(results) == 4
    with pytest.raises(DataError, match="no sevens"):
        next(results)


class TwoWordsError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def break_down(number: int) -> int:
    if number:
        raise TwoWordsError("cannot", "travel")
    raise ZeroDivisionError("oh")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "error"), [(0, ZeroDivisionError), (1, RuntimeError)])
def test_an_error_of_a_worker_keeps_its_traceback(number: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^oh\n|unexpected TwoWordsError: cannot travel") as found:
        list(run_jobs(break_down, [number, number], spec=ExecutionSpec(workers=2)))
    assert "in break_down" in "".join(found.value.__notes__)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_reported() -> None:
    with pytest.raises(ExecutionError, match="out of memory"):
        list(run_jobs(square, [9, 1, 2], spec=ExecutionSpec(workers=2)))


def test_jobs_on_a_dask_cluster() -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster:
        spec = ExecutionSpec(backend="dask", scheduler=cluster.scheduler_address)
        assert list(run_jobs(square, [3, 1, 2], spec=spec)) == [9, 1, 4]
