"""A signal to the process that submits: its tasks on Dask workers stop, then the lock is released."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.execution.dask_workers import StartWorker, scheduler_and_workers

pytestmark = pytest.mark.slow

# Python imports it at the start of every process of the workers: opening a slide never ends.
SITE = """
import os
if "BEATS" in os.environ:
    from tests.execution.dask_workers import beat
    from wsi_mil.slides import opening
    opening._open = beat
"""
JOBS = """
import sys
from pathlib import Path
from tests.execution.dask_workers import beat
from wsi_mil.cli.signals import ending_like_ctrl_c
from wsi_mil.execution import ExecutionSpec, run_jobs
from wsi_mil.run.lock import locked
with ending_like_ctrl_c() as received:
    try:
        with locked(Path(sys.argv[1])):
            list(run_jobs(beat, [1, 2], spec=ExecutionSpec(backend="dask", scheduler=sys.argv[2])))
    except KeyboardInterrupt:
        pass
sys.exit(received.exit_code)
"""
CLI = "from wsi_mil.cli import main; main()"


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A scheduler with two workers on which every slide and every job takes forever."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    with scheduler_and_workers() as (spec, start):
        for _ in range(2):
            start_beating(start, tmp_path)
        assert spec.scheduler is not None
        yield spec.scheduler


def start_beating(start: StartWorker, folder: Path) -> None:
    path = os.pathsep.join([str(folder / "site"), *sys.path])
    start(PYTHONPATH=path, BEATS=str(folder / "beats"))


def submit(folder: Path, code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start a process that submits, and wait until a worker works for it."""
    path = os.pathsep.join([str(folder / "site"), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 90
    while beats(folder) < 20 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    assert beats(folder) >= 20
    return process


def beats(folder: Path) -> int:
    path = folder / "beats"
    return path.stat().st_size if path.exists() else 0


def beats_when_unlocked(folder: Path, run: Path, process: "subprocess.Popen[str]") -> int:
    """Return the number of beats at the time when the lock has gone."""
    deadline = time.monotonic() + 60
    while (run / ".lock").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    found = beats(folder)
    assert not (run / ".lock").exists()
    return found


def config(folder: Path, quick_config: dict[str, Any]) -> Path:
    path = folder / "c.yaml"
    values = {**quick_config, "run": str(folder / "r"), "execution": {"backend": "dask"}}
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_slides_stop_before_the_lock_is_released(
    scheduler: str, quick_config: dict[str, Any], tmp_path: Path, kind: signal.Signals, code: int
) -> None:
    where = f"execution.scheduler={scheduler}"
    process = submit(tmp_path, CLI, "tile", config(tmp_path, quick_config), where)
    process.send_signal(kind)
    at_unlock = beats_when_unlocked(tmp_path, tmp_path / "r", process)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert "interrupted: finished slides are kept" in error
    assert "Traceback" not in error
    time.sleep(1.0)
    assert beats(tmp_path) == at_unlock


def test_trainings_stop_before_the_lock_is_released(scheduler: str, tmp_path: Path) -> None:
    process = submit(tmp_path, JOBS, tmp_path / "r", scheduler)
    process.send_signal(signal.SIGTERM)
    at_unlock = beats_when_unlocked(tmp_path, tmp_path / "r", process)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    time.sleep(1.0)
    assert beats(tmp_path) == at_unlock


def test_tasks_of_a_process_that_was_killed_stop(scheduler: str, tmp_path: Path) -> None:
    process = submit(tmp_path, JOBS, tmp_path / "r", scheduler)
    process.kill()
    process.communicate(timeout=60)
    deadline, last = time.monotonic() + 30, -1
    while (found := beats(tmp_path)) != last and time.monotonic() < deadline:
        last = found
        time.sleep(1.0)
    assert beats(tmp_path) == last
