"""Workers of map_slides and map_on_devices: slow openings, a killed parent, log records, user scripts."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stages import handmade
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.execution import ExecutionSpec, map_on_devices, map_slides
from wsi_mil.execution.activity import OPENING, activity
from wsi_mil.logs import logger

PROC = pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
ENDS_WITHIN_S = 15.0


@dataclass(frozen=True)
class Named:
    slide_id: str


JOBS = [Named(f"s{number}") for number in range(5)]


def open_slowly(job: Named) -> Outcome:
    with activity(job.slide_id, OPENING):
        time.sleep(600 if job.slide_id == "s2" else 0)
    time.sleep(0.1)
    return Outcome(job.slide_id, "tile", "done")


def open_next_slowly(jobs: Iterator[Named], device: str) -> Iterator[Outcome]:
    """Hold two slides at a time, as extraction does that opens the next one early."""
    for job in jobs:
        held = [job, *([following] if (following := next(jobs, None)) else [])]
        for each in held:
            with activity(each.slide_id, OPENING):
                time.sleep(600 if each.slide_id == "s1" else 0)
        for each in held:
            yield Outcome(each.slide_id, "extract", "done")


def say(job: Named) -> Outcome:
    logger("wsi_mil.tiles").warning("slide %s is %d of many", job.slide_id, 3)
    return Outcome(job.slide_id, "tile", "done")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_slide_whose_opening_hangs_fails_and_the_others_are_done(workers: int) -> None:
    spec = ExecutionSpec(workers=workers, open_timeout_s=0.5)
    found = {o.slide_id: o for o in map_slides(open_slowly, JOBS, stage="tile", spec=spec)}
    assert [name for name in sorted(found) if found[name].status == "failed"] == ["s2"]
    assert len(found) == len(JOBS)
    assert found["s2"].reason == "opening took longer than 0.5 s (execution.open_timeout_s)"


def test_of_several_slides_that_a_worker_held_only_the_one_that_hangs_fails() -> None:
    found = {o.slide_id: o for o in map_on_devices(open_next_slowly, JOBS, ["cpu"], "extract", 0.5)}
    assert [name for name in sorted(found) if found[name].status == "failed"] == ["s1"]
    assert sorted(found) == [job.slide_id for job in JOBS]
    assert found["s1"].reason.startswith("opening took longer than 0.5 s")


def test_a_slow_step_after_opening_is_not_limited() -> None:
    spec = ExecutionSpec(workers=1, open_timeout_s=0.05)
    found = list(map_slides(open_slowly, JOBS[:2], stage="tile", spec=spec))
    assert [outcome.status for outcome in found] == ["done", "done"]


def test_log_records_of_workers_reach_the_handlers_of_the_parent() -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger().addHandler(handler)
    try:
        list(map_slides(say, JOBS[:2], stage="tile", spec=ExecutionSpec(workers=2)))
    finally:
        logger().removeHandler(handler)
    said = [record for record in records if "of many" in record.getMessage()]
    assert sorted(r.getMessage() for r in said) == ["slide s0 is 3 of many", "slide s1 is 3 of many"]
    assert {record.levelno for record in said} == {logging.WARNING}
    assert os.getpid() not in {record.process for record in said}


SLEEPS = """
import os, time
from dataclasses import dataclass
from wsi_mil.contracts.outcome import Outcome
@dataclass(frozen=True)
class Named:
    slide_id: str
def sleep(job):
    with open(os.environ["PIDS"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(600)
    return Outcome(job.slide_id, "tile", "done")
def sleep_on_device(jobs, device):
    yield from map(sleep, jobs)
"""
STARTS = """
from sleeps import Named, sleep, sleep_on_device
from wsi_mil.execution import ExecutionSpec, map_on_devices, map_slides, run_jobs
jobs, spec = [Named("a"), Named("b")], ExecutionSpec(workers=2)
list({call})
"""
CALLS = {
    "map_slides": 'map_slides(sleep, jobs, stage="tile", spec=spec)',
    "map_on_devices": 'map_on_devices(sleep_on_device, jobs, ["cpu", "cpu"], "extract")',
    "run_jobs": "run_jobs(sleep, jobs, spec=spec)",
}


def with_path(folder: Path) -> dict[str, str]:
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)}


def wait_until(condition: Any, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return bool(found)


def of_session(session: int) -> list[int]:
    """The processes of a session that still run; a zombie has ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, own = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(int(folder.name))
    return found


@PROC
@pytest.mark.parametrize("call", CALLS)
def test_no_process_is_left_of_a_killed_parent(tmp_path: Path, call: str) -> None:
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    (tmp_path / "starts.py").write_text(STARTS.format(call=CALLS[call]))
    pids = tmp_path / "pids"
    pids.touch()
    process = subprocess.Popen(
        [sys.executable, "starts.py"],
        cwd=tmp_path,
        env=with_path(tmp_path) | {"PIDS": str(pids)},
        start_new_session=True,
    )
    try:
        assert wait_until(lambda: len(pids.read_text().splitlines()) == 2)
        working = {int(pid) for pid in pids.read_text().split()}
        assert working <= set(of_session(process.pid)) - {process.pid}
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert wait_until(lambda: not of_session(process.pid), ENDS_WITHIN_S), of_session(process.pid)
    finally:
        for pid in of_session(process.pid):
            os.kill(pid, signal.SIGKILL)


SCRIPT = """
import json
from wsi_mil.config.loading import parse_config
from wsi_mil.stages import run_stage
print("started")
print(run_stage(parse_config(json.load(open("c.json"))), "tile").work)
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_runs_a_stage(tmp_path: Path) -> None:
    handmade.source(tmp_path / "slides")
    values = {
        "run": str(tmp_path / "run"),
        "slides": {"folder": str(tmp_path / "slides")},
        "tiles": {"mpp": 1.0, "size_px": 64},
        "execution": {"workers": 1, "threads": 1},
    }
    (tmp_path / "c.json").write_text(json.dumps(values))
    (tmp_path / "script.py").write_text(SCRIPT)
    found = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=with_path(tmp_path), capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["started", "{'tile': 1}"]


def imported(job: Named) -> Outcome:
    """What the server had imported before this worker was forked, except what this module needs itself."""
    found = [name for name in ("openslide", "pydicom", "wsi_mil.stages.tile") if name in sys.modules]
    return Outcome(job.slide_id, "tile", "done", " ".join(found))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no server of workers")
def test_the_server_imports_what_readers_of_slides_and_the_stage_need(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from tests.execution.test_supervision import JOBS, imported\n"
        "from wsi_mil.execution import ExecutionSpec, map_slides\n"
        "from wsi_mil.execution.processes import start_server\n"
        "start_server('wsi_mil.stages.tile')\n"
        "[found] = map_slides(imported, JOBS[:1], stage='tile', spec=ExecutionSpec(workers=1))\n"
        "print(found.reason)\n"
    )
    paths = os.pathsep.join(path for path in ("", *sys.path) if path)
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{paths}"},
    )
    assert result.stdout.split() == ["openslide", "pydicom", "wsi_mil.stages.tile"], result.stderr
