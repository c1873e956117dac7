"""Ctrl-C at any moment, kill -9 in the middle of extraction: then resume gives the bytes of an uninterrupted
run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from wsi_mil.config.loading import parse_config
from wsi_mil.stages import run_stage

SLOW = """
import sys, time
import wsi_mil.encoders.models.texture as texture
encode = texture.TextureEncoder.encode
def slow(self, pixels):
    print("batch", flush=True)
    time.sleep(0.05)
    return encode(self, pixels)
texture.TextureEncoder.encode = slow
import wsi_mil.execution.supervision as supervision
supervision.work_in_this_process = True  # where the slow encoder is
from wsi_mil.cli import main
main(sys.argv[1:])
"""


def hear_ctrl_c() -> None:
    """In the child before it starts: a test run in the background would hand down that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def values(run: Path, quick_config: dict[str, Any]) -> dict[str, Any]:
    return {**quick_config, "run": str(run), "encoder": {"name": "texture", "batch_size": 8}}


def contents(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in (run / "slides").rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, quick_config: dict[str, Any]) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("whole") / "r"
    for stage in ("tile", "extract"):
        run_stage(parse_config(values(run, quick_config)), stage)
    return contents(run)


@pytest.mark.parametrize(
    ("kind", "batches"), [(signal.SIGKILL, 9), (signal.SIGKILL, 40), (signal.SIGINT, 15)]
)
def test_stopped_in_the_middle_of_extraction(
    kind: signal.Signals,
    batches: int,
    uninterrupted: dict[str, bytes],
    quick_config: dict[str, Any],
    tmp_path: Path,
) -> None:
    run, config = tmp_path / "r", tmp_path / "c.yaml"
    settings = values(run, quick_config)
    config.write_text(yaml.safe_dump(settings))
    run_stage(parse_config(settings), "tile")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "extract", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    assert process.stdout is not None
    for _ in range(batches):
        assert process.stdout.readline().strip() == "batch"
    process.send_signal(kind)
    _, error = process.communicate(timeout=60)
    assert process.returncode == (130 if kind == signal.SIGINT else -signal.SIGKILL)
    if kind == signal.SIGINT:
        assert "interrupted: finished slides are kept" in error
        assert "Traceback" not in error
        assert not [p for p in run.rglob("*") if p.name.endswith(".tmp")]
    done = [p for p in (run / "slides").glob("*.zarr") if (p / "features" / "texture").is_dir()]
    assert len(done) < 18
    before = {p: (p / "features" / "texture" / "zarr.json").stat().st_mtime_ns for p in done}
    run_stage(parse_config(settings), "extract")
    assert {p: (p / "features" / "texture" / "zarr.json").stat().st_mtime_ns for p in done} == before
    found = contents(run)
    assert found.keys() == uninterrupted.keys()
    assert found == uninterrupted


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_while_a_whole_run_works(
    kind: signal.Signals, code: int, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    """Wherever it strikes: its exit code, one line, no traceback, no lock and no half file left."""
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({**values(tmp_path / "r", quick_config), "execution": {"workers": 2}}))
    process = subprocess.Popen(
        [sys.executable, "-c", "from wsi_mil.cli import main; main()", "run", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    lock = tmp_path / "r" / ".lock"
    deadline = time.monotonic() + 60
    while not lock.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(process.pid, kind)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert "interrupted" in error
    assert "Traceback" not in error
    assert not lock.exists()
    assert not [p for p in (tmp_path / "r").rglob("*") if p.name.endswith(".tmp")]
