"""One process per device: the same bytes as one process, and what a process takes down with it. CPUs stand in
for GPUs."""

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from wsi_mil.config.loading import parse_config
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.encoders.base import pick_devices
from wsi_mil.errors import ConfigError, EncoderError, WsiMilError
from wsi_mil.execution import map_on_devices
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_stage
from wsi_mil.trust import trusted


@dataclass(frozen=True)
class Named:
    slide_id: str


JOBS = [Named(f"s{number}") for number in range(8)]


def work(jobs: Iterator[Named], device: str) -> Iterator[Outcome]:
    for job in jobs:
        yield Outcome(job.slide_id, "extract", "done", device)


def die_at_s2(jobs: Iterator[Named], device: str) -> Iterator[Outcome]:
    """Two slides are held at a time, as extraction does that opens the next one early."""
    for job in jobs:
        if job.slide_id == "s2":
            next(jobs, None)
            os.kill(os.getpid(), signal.SIGKILL)
        yield Outcome(job.slide_id, "extract", "done", device)


def die(jobs: Iterator[Named], device: str) -> Iterator[Outcome]:
    for _ in jobs:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from ()


def no_weights(jobs: Iterator[Named], device: str) -> Iterator[Outcome]:
    raise EncoderError("no weights here")
    yield from ()


def test_every_job_is_done_once() -> None:
    found = list(map_on_devices(work, JOBS, ["a", "b"], "extract"))
    assert sorted(outcome.slide_id for outcome in found) == [job.slide_id for job in JOBS]
    assert {outcome.status for outcome in found} == {"done"}
    assert {outcome.reason for outcome in found} <= {"a", "b"}
    assert list(map_on_devices(work, [], ["a"], "extract")) == []


def test_only_the_slide_at_fault_fails_of_those_that_its_process_held() -> None:
    found = {outcome.slide_id: outcome for outcome in map_on_devices(die_at_s2, JOBS, ["a", "b"], "extract")}
    assert sorted(found) == [job.slide_id for job in JOBS]
    assert [name for name, outcome in found.items() if outcome.status == "failed"] == ["s2"]
    assert found["s2"].reason.startswith("killed by signal 9 (SIGKILL)")


def test_when_all_are_killed_every_slide_has_an_outcome() -> None:
    found = list(map_on_devices(die, JOBS, ["a", "b"], "extract"))
    assert sorted(outcome.slide_id for outcome in found) == [job.slide_id for job in JOBS]
    assert {outcome.status for outcome in found} == {"failed"}


def test_what_stops_a_device_is_the_runs_error() -> None:
    with pytest.raises(WsiMilError, match=r"^[ab]: no weights here$"):
        list(map_on_devices(no_weights, JOBS, ["a", "b"], "extract"))


def test_two_devices_write_what_one_writes(
    small_run: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    """Plain features and a view of six slides, byte for byte, whichever process a slide went to."""
    run = tmp_path / "run"
    kept = sorted(RunFolder(small_run).stored_slides())[:6]
    for slide_id in kept:
        (tmp_path / "cohort").mkdir(exist_ok=True)
        file = Path(quick_config["slides"]["folder"]) / f"{slide_id}.tiff"
        (tmp_path / "cohort" / file.name).symlink_to(file)
    for name in ("slides", "tissue", "previews"):
        shutil.copytree(small_run / name, run / name)
    for name in ("provenance.json", "config.yaml", "outcomes.csv"):
        shutil.copy(small_run / name, run / name)
    stores = [RunFolder(run).store(slide_id) for slide_id in kept]
    slides = {"folder": str(tmp_path / "cohort")}
    settings = {**quick_config, "run": str(run), "encoder": {"views": 1}, "slides": slides}
    files: list[dict[str, bytes]] = []
    for devices in ((), ("cpu", "cpu")):
        for store in stores:
            shutil.rmtree(store.path / "features")
        execution = {"workers": 1, "threads": 1, "devices": devices}
        assert (
            run_stage(parse_config({**settings, "execution": execution}), "extract").work["extract"] == 2 * 6
        )
        found = [path for store in stores for path in sorted(store.path.rglob("*")) if path.is_file()]
        files.append({path.relative_to(run).as_posix(): path.read_bytes() for path in found})
        assert run_stage(parse_config({**settings, "execution": execution}), "extract").work["extract"] == 0
    assert files[0] == files[1]


def test_devices_that_are_not_there(quick_config: dict[str, Any], tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"execution.devices=all: torch sees no CUDA device"):
            pick_devices("all")
    with pytest.raises(ConfigError, match=r"execution.device='cuda:99': torch sees \d+ CUDA devices"):
        pick_devices(["cpu", "cuda:99"])
    execution = {"backend": "dask", "scheduler": "tcp://x:1", "devices": ["cpu"]}
    own = trusted("execution.scheduler")
    with own, pytest.raises(ConfigError, match=r"execution.devices are those of this machine"):
        parse_config({**quick_config, "run": str(tmp_path), "execution": execution})
