"""A real Dask cluster of two worker processes: workers that die, nodes in trouble, the bytes of a serial run,
job scripts."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.execution.dask_workers import kill_worker, worker_pid
from tests.features.kill_extraction import jobs as extract_jobs
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import ConfigError, SlideError
from wsi_mil.execution import ExecutionSpec, map_slides, run_jobs
from wsi_mil.execution.clusters import ClusterSpec, make_cluster
from wsi_mil.execution.dask_backend import dask_client
from wsi_mil.features import SlideStore
from wsi_mil.slides import open_slide
from wsi_mil.stages.extract import extract_many, extract_one
from wsi_mil.synthetic.writing import write_pyramid
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue


@dataclass(frozen=True)
class Job:
    slide_id: str


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    from distributed import LocalCluster

    # one thread a worker, as on a cluster; both offer a GPU, so that tasks that ask for one run as well
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", resources={"GPU": 1}
    ) as cluster:
        yield cluster.scheduler_address


def on(scheduler: str, **options: object) -> ExecutionSpec:
    return ExecutionSpec(backend="dask", scheduler=scheduler, **options)


def note(folder: Path, slide_id: str) -> int:
    """Remember an attempt; return how many there were before."""
    before = len(list(folder.glob(f"{slide_id}.*")))
    (folder / f"{slide_id}.{before}").write_text(str(worker_pid()))
    return before


def dies_once(folder: Path, job: Job) -> Outcome:
    if job.slide_id == "s3" and note(folder, job.slide_id) == 0:
        kill_worker()
    return Outcome(job.slide_id, "tile", "done", digest=job.slide_id)


def test_a_worker_killed_in_the_middle_loses_no_slide(scheduler: str, tmp_path: Path) -> None:
    jobs = [Job(f"s{number}") for number in range(12)]
    found = list(map_slides(partial(dies_once, tmp_path), jobs, stage="tile", spec=on(scheduler)))
    assert sorted(outcome.slide_id for outcome in found) == sorted(job.slide_id for job in jobs)
    assert {outcome.status for outcome in found} == {"done"}
    assert len(list(tmp_path.glob("s3.*"))) == 2


def node_in_trouble(folder: Path, job: Job) -> Outcome:
    if note(folder, job.slide_id) == 0:
        raise OSError(28, "No space left on device", "/scratch")
    return Outcome(job.slide_id, "extract", "done")


def always_in_trouble(folder: Path, job: Job) -> Outcome:
    note(folder, job.slide_id)
    raise OSError(28, "No space left on device", "/scratch")


def broken_slide(folder: Path, job: Job) -> Outcome:
    note(folder, job.slide_id)
    raise SlideError("slide 'a' cannot be opened")


@pytest.mark.parametrize(
    ("function", "retries", "status", "attempts"),
    [
        (node_in_trouble, 2, "done", 2),
        (node_in_trouble, 0, "failed", 1),
        (always_in_trouble, 5, "failed", 2),
        (broken_slide, 2, "failed", 1),
    ],
)
def test_what_one_node_cannot_do_another_tries(
    scheduler: str, tmp_path: Path, function: Callable[..., Outcome], retries: int, status: str, attempts: int
) -> None:
    spec = on(scheduler, retries=retries, device="cuda")
    with dask_client(spec) as client:  # the worker that was killed before comes back
        client.wait_for_workers(2, timeout=30)
    [found] = map_slides(partial(function, tmp_path), [Job("a")], stage="extract", spec=spec)
    assert found.status == status
    workers = [path.read_text() for path in tmp_path.glob("a.*")]
    assert len(workers) == len(set(workers)) == attempts
    if status == "failed":
        assert found.reason in ("No space left on device: /scratch", "slide 'a' cannot be opened")


def test_extraction_on_dask_gives_the_bytes_of_a_serial_run(scheduler: str, tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    for number, (width, height) in enumerate([(384, 256), (256, 320), (512, 256), (192, 256)]):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        write_pyramid(slides / f"s{number}.tiff", pixels, (1.0, 1.0), factor=0)
    for place in ("serial", "dask"):
        for path in sorted(slides.glob("*.tiff")):
            with open_slide(path) as slide:
                table = tile_slide(
                    slide.info, find_tissue(slide, TissueSpec(method="whole")), TileSpec(mpp=1.0, size_px=64)
                )
                SlideStore(tmp_path / place / f"{path.stem}.zarr", path.stem).write_tiles(
                    table, slide.info, "made"
                )
    here = {o.slide_id: o for o in extract_many(extract_jobs(slides, tmp_path / "serial"))}
    there = {
        o.slide_id: o
        for o in map_slides(
            extract_one, extract_jobs(slides, tmp_path / "dask"), stage="extract", spec=on(scheduler)
        )
    }
    assert {name: (o.status, o.digest, o.counts) for name, o in here.items()} == {
        name: (o.status, o.digest, o.counts) for name, o in there.items()
    }
    files = [
        path.relative_to(tmp_path / "serial") for path in (tmp_path / "serial").rglob("*") if path.is_file()
    ]
    assert len(files) >= 40
    for file in files:
        assert (tmp_path / "dask" / file).read_bytes() == (tmp_path / "serial" / file).read_bytes(), file


def square(number: int) -> int:
    return number * number


def test_trainings_run_as_tasks_too(scheduler: str) -> None:
    assert list(run_jobs(square, [3, 1, 2], spec=on(scheduler))) == [9, 1, 4]


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        (
            "slurm",
            [
                "#SBATCH --mem=60G",
                "#SBATCH -t 02:00:00",
                "#SBATCH -p gpuq",
                "#SBATCH --gres=gpu:1",
                "#SBATCH --cpus-per-task=8",
            ],
        ),
        ("pbs", ["#PBS -q gpuq", "#PBS -l walltime=02:00:00"]),
        ("lsf", ["#BSUB -q gpuq", "#BSUB -n 8"]),
    ],
)
def test_what_a_cluster_is_asked_for(kind: str, lines: list[str]) -> None:
    spec = ClusterSpec(
        kind=kind,
        jobs=3,
        cores=8,
        memory="64GB",
        gpus=1,
        walltime="02:00:00",
        queue="gpuq",
        prologue=["module load cuda"],
    )
    with make_cluster(spec) as cluster:
        script = cluster.job_script()
    for line in [*lines, "export PYTHONSAFEPATH=1", "module load cuda"]:
        assert line in script, script
    assert "--nthreads 1" in script
    assert "--resources GPU=1" in script
    assert spec.describe() == f"3 {kind} jobs of 8 cores, 64GB, 1 GPU, 02:00:00"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, module, extra in (
        ("slurm", "dask_jobqueue", "cluster"),
        ("kubernetes", "dask_kubernetes.operator", "kubernetes"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ConfigError, match=rf"kind={kind} needs: pip install 'wsi-mil\[{extra}\]'"):
            make_cluster(ClusterSpec(kind=kind))


def test_gpu_tasks_are_those_of_extraction() -> None:
    gpu = ExecutionSpec(backend="dask", cluster=ClusterSpec(kind="slurm", gpus=1))
    assert gpu.asks_for_gpu
    assert ExecutionSpec(device="cuda:0").asks_for_gpu
    assert not ExecutionSpec().asks_for_gpu


def test_a_cluster_that_would_not_be_used_is_refused() -> None:
    jobs = ClusterSpec(kind="slurm")
    for options in ({}, {"backend": "dask", "scheduler": "tcp://127.0.0.1:1"}):
        with pytest.raises(ValueError, match="set backend=dask and leave scheduler out"):
            ExecutionSpec(cluster=jobs, **options)
