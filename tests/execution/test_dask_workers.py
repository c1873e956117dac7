"""Which Dask workers get a job, what is said when there is none, and slides that kill their worker."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.execution.dask_workers import StartWorker, scheduler_and_workers
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ConfigError, ExecutionError
from wsi_mil.execution import ExecutionSpec, map_slides, missing_workers, run_jobs
from wsi_mil.execution.clusters import LOOK, ClusterSpec
from wsi_mil.execution.missing_workers import MissingWorkers

pytestmark = pytest.mark.slow
Workers = tuple[ExecutionSpec, StartWorker]
GPU_WORKER = {"KIND_OF_WORKER": "gpu"}


@dataclass(frozen=True)
class Job:
    slide_id: str
    needs_gpu: bool = False


@pytest.fixture
def workers() -> Iterator[Workers]:
    with scheduler_and_workers() as found:
        yield found


def kind_of_worker(job: Job) -> str:
    return os.environ.get("KIND_OF_WORKER", "plain")


def row_of_worker(job: Job) -> Outcome:
    time.sleep(0.05)
    return Outcome(job.slide_id, "any", "done", digest=kind_of_worker(job))


def test_jobs_that_need_a_gpu_run_only_where_one_is(workers: Workers) -> None:
    spec, start = workers
    start("--resources", "GPU=1", **GPU_WORKER)
    start()
    jobs = [Job(f"s{number}", needs_gpu=number % 2 == 0) for number in range(24)]
    rows = {row.slide_id: row.digest for row in map_slides(row_of_worker, jobs, stage="any", spec=spec)}
    assert {rows[job.slide_id] for job in jobs if job.needs_gpu} == {"gpu"}
    assert list(run_jobs(kind_of_worker, [Job("a", True), Job("b", True)], spec=spec)) == ["gpu", "gpu"]


def test_an_absent_worker_is_reported_again_and_again_until_it_comes(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(missing_workers, "FIRST_REPORT_S", 0.4)
    spec, start = workers
    start()  # a worker, but without a GPU
    later = threading.Timer(6, start, ("--resources", "GPU=1"), GPU_WORKER)
    later.start()
    with caplog.at_level(logging.INFO, "wsi_mil"):
        jobs = [Job("a", needs_gpu=True), Job("b")]
        rows = list(map_slides(row_of_worker, jobs, stage="extract", spec=spec))
    later.join()
    assert {row.slide_id: row.status for row in rows} == {"a": "done", "b": "done"}
    reports = [record for record in caplog.records if "wait for a Dask worker with a GPU" in record.message]
    assert len(reports) >= 3
    between = [b.created - a.created for a, b in pairwise(reports)]
    assert between[-1] > 1.5 * between[0]
    assert reports[-1].message == (
        "extract: 1 tasks wait for a Dask worker with a GPU; there are 1 workers, none with a GPU: start one "
        f"with `dask worker {spec.scheduler} --nthreads 1 --resources GPU=1`"
    )
    assert "extract: a worker has come, it continues" in caplog.messages


def slow_row(job: Job) -> Outcome:
    time.sleep(0.5)
    return Outcome(job.slide_id, "any", "done")


def test_workers_that_go_away_in_the_middle_are_reported_too(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(missing_workers, "FIRST_REPORT_S", 0.4)
    spec, start = workers
    first = start()
    rows = map_slides(slow_row, [Job(f"s{number}") for number in range(4)], stage="tile", spec=spec)
    found = [next(rows)]
    first.terminate()
    later = threading.Timer(4, start)
    later.start()
    found += list(rows)
    later.join()
    assert [row.status for row in found] == ["done"] * 4
    text = f"there is none: start one with `dask worker {spec.scheduler} --nthreads 1`"
    assert any(message.endswith(text) for message in caplog.messages)


def dies(folder: Path, job: Job) -> Outcome:
    (folder / f"{job.slide_id}.{time.monotonic_ns()}").touch()
    if job.slide_id.startswith("bad"):
        os.abort()
    return Outcome(job.slide_id, "tile", "done")


@pytest.mark.parametrize("gpu", [False, True])
def test_a_slide_that_kills_its_workers_is_named_and_no_other(
    workers: Workers, tmp_path: Path, gpu: bool
) -> None:
    spec, start = workers
    for _ in range(2):
        start("--resources", "GPU=1")
    names = ["good0", "bad0", *(f"good{number}" for number in range(1, 8)), "bad1", "good8"]
    jobs = [Job(name, gpu) for name in names]
    rows = {row.slide_id: row for row in map_slides(partial(dies, tmp_path), jobs, stage="tile", spec=spec)}
    assert {name for name, row in rows.items() if row.status == "done"} == {n for n in names if "good" in n}
    for name in ("bad0", "bad1"):
        assert "killed its Dask worker 4 times" in rows[name].reason  # the default of this scheduler: 3 + 1
        assert rows[name].status == "failed"


def abort(job: Job) -> str:
    os.abort()


def test_a_training_that_kills_its_workers_is_an_error(workers: Workers) -> None:
    spec, start = workers
    start()
    with pytest.raises(ExecutionError, match="abort: killed its Dask worker 4 times"):
        list(run_jobs(abort, [Job("a")], spec=spec))


@pytest.mark.parametrize("kind", list(LOOK))
def test_pending_jobs_of_a_cluster_are_counted(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    class Client:
        def scheduler_info(self, n_workers: int) -> dict[str, object]:
            return {"workers": {"tcp://1": {"nthreads": 1, "resources": {}}}}

    cluster = ClusterSpec(kind=kind, jobs=3, gpus=1, namespace="mil")  # type: ignore[arg-type]
    watch = MissingWorkers(Client(), ExecutionSpec(backend="dask", cluster=cluster), "extract")
    watch.open[True] = 5
    watch._absent[True].interval = 0.0
    watch._look()
    [message] = caplog.messages
    assert message.startswith("extract: 5 tasks wait for a Dask worker with a GPU; there are 1 workers, none")
    assert f"2 of 3 {kind} jobs are pending or have ended: look with `{cluster.look}`" in message


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}),
        pytest.raises(ConfigError, match="no Dask scheduler answers there: start one with `dask scheduler`"),
    ):
        list(
            map_slides(
                slow_row, [Job("a")], stage="x", spec=ExecutionSpec(backend="dask", scheduler="127.0.0.1:9")
            )
        )


def test_a_cluster_without_gpus_is_refused_where_they_are_needed() -> None:
    with pytest.raises(ValueError, match=r"set execution\.cluster\.gpus=1"):
        ExecutionSpec(backend="dask", device="cuda", cluster=ClusterSpec(kind="slurm"))
