"""A slide that killed its process fails at once in the next run, as long as nothing about it has changed."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.execution.activity import activity
from wsi_mil.run import killed
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.killed import without_killers
from wsi_mil.run.recording import record_outcomes


@dataclass(frozen=True)
class Job:
    slide_id: str
    source: SlideSource
    signal: int
    setting: int = 0
    replaces: str = ""


def work(job: Job) -> Outcome:
    with activity(job.slide_id, "opening"):
        if job.replaces:
            replace_file(Path(job.source.file), job.replaces)
        if job.signal:
            os.kill(os.getpid(), job.signal)
    return Outcome(job.slide_id, "tile", "done", digest="d")


def replace_file(path: Path, how: str) -> None:
    """Write another content of the same size: in place, or as another file with the same time."""
    before = path.stat()
    if how == "in place":
        path.write_bytes(bytes(before.st_size))
        return
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)


def job_of(folder: Path, slide_id: str, number: int = 0, setting: int = 0) -> Job:
    path = folder / f"{slide_id}.tif"
    if not path.exists():
        path.write_bytes(slide_id.encode())
    return Job(slide_id, SlideSource(slide_id, path, None), number, setting)


def run_jobs(folder: Path, jobs: list[Job]) -> list[str]:
    """Run the stage; return the slides that were worked on."""
    worked: list[str] = []

    def seen(waiting: list[Job]) -> Iterator[Outcome]:
        worked.extend(job.slide_id for job in waiting)
        yield from map_slides(work, waiting, stage="tile", spec=ExecutionSpec(workers=1))

    run = RunFolder(folder)
    record_outcomes(run, "tile", without_killers(run, "tile", jobs, seen), len(jobs))
    return worked


def reason(folder: Path, slide_id: str) -> str:
    found = RunFolder(folder).ledger.get(slide_id, "tile")
    assert found is not None
    return found.reason


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGBUS"])
def test_the_second_run_does_not_work_on_it(tmp_path: Path, name: str) -> None:
    number = int(getattr(signal, name))
    jobs = [job_of(tmp_path, "good"), job_of(tmp_path, "bad", number)]
    assert run_jobs(tmp_path, jobs) == ["good", "bad"]
    first = (tmp_path / "outcomes.csv").read_bytes()
    assert reason(tmp_path, "bad") == f"killed by signal {number} ({name}) while opening"
    assert run_jobs(tmp_path, jobs) == ["good"]
    assert (tmp_path / "outcomes.csv").read_bytes() == first


def test_a_kill_from_outside_is_tried_again(tmp_path: Path) -> None:
    names = ["a", "b", "c", "bad"]  # if most slides were killed so, the run would stop
    jobs = [job_of(tmp_path, name, signal.SIGKILL if name == "bad" else 0) for name in names]
    assert run_jobs(tmp_path, jobs) == run_jobs(tmp_path, jobs) == names
    assert reason(tmp_path, "bad").startswith("killed by signal 9 (SIGKILL) while opening: out of memory")


def test_a_new_file_other_settings_and_other_packages_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = partial(job_of, tmp_path, "bad", signal.SIGABRT)
    run_jobs(tmp_path, [bad()])
    assert run_jobs(tmp_path, [bad(setting=1)]) == ["bad"]
    assert run_jobs(tmp_path, [bad(setting=1)]) == []
    (tmp_path / "bad.tif").write_bytes(b"another")
    assert run_jobs(tmp_path, [bad(setting=1)]) == ["bad"]
    monkeypatch.setattr(killed, "package_versions", lambda: {"openslide-bin": "99"})
    assert run_jobs(tmp_path, [bad(setting=1)]) == ["bad"]
    assert run_jobs(tmp_path, [bad(setting=1)]) == []


def test_a_job_without_a_slide_file_is_done(tmp_path: Path) -> None:
    """As heatmaps of imported features are."""
    assert run_jobs(tmp_path, [Job("s", SlideSource("s", None, None), 0)]) == ["s"]
    assert RunFolder(tmp_path).ledger.summary("tile") == "1 done"


def test_a_slide_whose_file_is_gone_is_tried(tmp_path: Path) -> None:
    bad = job_of(tmp_path, "bad", signal.SIGABRT)
    run_jobs(tmp_path, [bad])
    (tmp_path / "bad.tif").unlink()
    assert run_jobs(tmp_path, [bad]) == run_jobs(tmp_path, [bad]) == ["bad"]


@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_a_file_that_was_replaced_during_the_work_is_tried(tmp_path: Path, how: str) -> None:
    bad = job_of(tmp_path, "bad", signal.SIGABRT)
    run_jobs(tmp_path, [replace(bad, replaces=how)])
    assert (tmp_path / "bad.tif").read_bytes() == bytes(3)
    assert run_jobs(tmp_path, [replace(bad, replaces=how)]) == ["bad"]
    found = RunFolder(tmp_path).ledger.get("bad", "tile")
    assert found is not None
    assert found.digest == ""


def test_removing_its_row_lets_it_be_tried(tmp_path: Path) -> None:
    bad = job_of(tmp_path, "bad", signal.SIGABRT)
    run_jobs(tmp_path, [bad])
    run = RunFolder(tmp_path)
    run.ledger.remove("bad", "tile")
    run.ledger.save()
    assert run_jobs(tmp_path, [bad]) == ["bad"]
