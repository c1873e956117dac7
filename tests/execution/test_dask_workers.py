"""Which Dask workers get a job, what is said when there is none, and slides that kill their worker."""

import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.execution.dask_workers import StartWorker, kill_worker, scheduler_and_workers, worker_pid
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import ConfigError, ExecutionError
from wsi_mil.execution import ExecutionSpec, map_slides, missing_workers, run_jobs
from wsi_mil.execution.activity import OPENING, activity
from wsi_mil.execution.clusters import LOOK, ClusterSpec
from wsi_mil.execution.dask_backend import dask_client
from wsi_mil.execution.missing_workers import MissingWorkers
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.killed import without_killers
from wsi_mil.run.recording import record_outcomes

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
    (folder / f"{job.slide_id}.{time.monotonic_ns()}").write_text(str(worker_pid()))
    if job.slide_id.startswith("bad"):
        os.abort()
    return Outcome(job.slide_id, "tile", "done")


@pytest.mark.parametrize("options", [(), ("--no-nanny",), ("--nthreads", "2")])
def test_a_slide_that_aborts_fails_once_and_its_worker_lives(
    workers: Workers, tmp_path: Path, options: tuple[str, ...]
) -> None:
    spec, start = workers
    start(*options)
    jobs = [Job(name) for name in ("good0", "bad0", "good1", "bad1", "good2")]
    rows = {row.slide_id: row for row in map_slides(partial(dies, tmp_path), jobs, stage="tile", spec=spec)}
    assert {name for name, row in rows.items() if row.status == "done"} == {"good0", "good1", "good2"}
    for name in ("bad0", "bad1"):
        assert (rows[name].reason, rows[name].counts) == ("killed by signal 6 (SIGABRT)", {"signal": 6})
        assert "in dies\n" in rows[name].traceback
    files = list(tmp_path.iterdir())
    assert len(files) == len(jobs)
    assert len({file.read_text() for file in files}) == 1


def kills_worker(folder: Path, job: Job) -> Outcome:
    (folder / f"{job.slide_id}.{time.monotonic_ns()}").touch()
    if job.slide_id.startswith("bad"):
        kill_worker()
    return Outcome(job.slide_id, "tile", "done")


def test_a_slide_that_kills_its_workers_is_named_and_no_other(workers: Workers, tmp_path: Path) -> None:
    spec, start = workers
    for _ in range(2):
        start("--resources", "GPU=1")
    names = ["good0", "bad0", *(f"good{number}" for number in range(1, 8))]
    jobs = [Job(name, needs_gpu=True) for name in names]
    work = partial(kills_worker, tmp_path)
    rows = {row.slide_id: row for row in map_slides(work, jobs, stage="tile", spec=spec)}
    assert {name for name, row in rows.items() if row.status == "done"} == {n for n in names if "good" in n}
    assert "its Dask worker ended 4 times" in rows["bad0"].reason  # the default of this scheduler: 3 + 1
    assert rows["bad0"].status == "failed"


def out_of_memory(folder: Path, job: Job) -> Outcome:
    with activity(job.slide_id, "reading tiles"):
        if not (folder / "tried").exists():
            (folder / "tried").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(job.slide_id, "tile", "done")


@pytest.mark.parametrize("retries", [0, 1])
def test_a_slide_killed_by_the_system_is_tried_by_another_worker(
    workers: Workers, tmp_path: Path, retries: int
) -> None:
    spec, start = workers
    for _ in range(2):
        start()
    with dask_client(spec) as client:
        client.wait_for_workers(2, timeout=30)
    own = spec.model_copy(update={"retries": retries})
    [row] = map_slides(partial(out_of_memory, tmp_path), [Job("a")], stage="tile", spec=own)
    assert row.status == ("done" if retries else "failed")
    if not retries:
        assert row.reason.startswith("killed by signal 9 (SIGKILL) while reading tiles: out of memory")
        assert row.cause == "memory"


def open_slowly(job: Job) -> Outcome:
    with activity(job.slide_id, OPENING):
        time.sleep(600 if job.slide_id == "s1" else 0)
    time.sleep(1.5)
    return Outcome(job.slide_id, "tile", "done")


def test_a_slide_whose_opening_hangs_fails_and_the_others_are_done(workers: Workers) -> None:
    spec, start = workers
    start()
    own = spec.model_copy(update={"open_timeout_s": 1.0})
    jobs = [Job(f"s{number}") for number in range(3)]
    rows = {row.slide_id: row for row in map_slides(open_slowly, jobs, stage="tile", spec=own)}
    assert {name: row.status for name, row in rows.items()} == {"s0": "done", "s1": "failed", "s2": "done"}
    assert rows["s1"].reason == "opening took longer than 1 s (execution.open_timeout_s)"


@dataclass(frozen=True)
class SlideJob(Job):
    source: SlideSource | None = None


def test_the_next_run_does_not_work_on_a_slide_that_aborts(workers: Workers, tmp_path: Path) -> None:
    spec, start = workers
    start()
    (tmp_path / "marks").mkdir()
    jobs = []
    for name in ("good", "bad"):
        (tmp_path / f"{name}.tif").write_bytes(name.encode())
        jobs.append(SlideJob(name, source=SlideSource(name, tmp_path / f"{name}.tif", None)))

    def marks_of_a_run() -> list[str]:
        run = RunFolder(tmp_path)
        work = partial(map_slides, partial(dies, tmp_path / "marks"), stage="tile", spec=spec)
        record_outcomes(run, "tile", without_killers(run, "tile", jobs, work), len(jobs))
        return sorted(path.stem for path in (tmp_path / "marks").iterdir())

    assert marks_of_a_run() == ["bad", "good"]
    assert marks_of_a_run() == ["bad", "good", "good"]


def abort(job: Job) -> str:
    os.abort()


def kill_own_worker(job: Job) -> str:
    kill_worker()
    return ""


def test_a_training_that_dies_is_an_error(workers: Workers) -> None:
    spec, start = workers
    start()
    with pytest.raises(
        ExecutionError, match=r"abort: killed by signal 6 \(SIGABRT\); run again to resume"
    ) as caught:
        list(run_jobs(abort, [Job("a")], spec=spec))
    assert "in abort\n" in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ExecutionError, match="kill_own_worker: its Dask worker ended 4 times"):
        list(run_jobs(kill_own_worker, [Job("a")], spec=spec))


def divide(number: int) -> float:
    return 1 / number


class TwoPartsError(Exception):
    """An error that cannot be made again from its one argument."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def raise_two_parts(number: int) -> float:
    raise TwoPartsError("first, ", "second")


def test_an_exception_of_a_training_is_raised_with_its_traceback(workers: Workers) -> None:
    spec, start = workers
    start()
    found = run_jobs(divide, [1, 0], spec=spec)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError) as caught:
        next(found)
    assert "return 1 / number" in "".join(traceback.format_exception(caught.value))
    with pytest.raises(RuntimeError, match="unexpected TwoPartsError: first, second"):
        list(run_jobs(raise_two_parts, [1], spec=spec))


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
