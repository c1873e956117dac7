"""Ten good slides and one that ends the process that reads it: ten are done, one fails by name, in every
subcommand that opens slides."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from wsi_mil.run.outcomes import OutcomeTable

pytestmark = pytest.mark.slow

# Python imports it at the start of every process. A library that aborts cannot be caught by any `except`.
SITE = """
import os
from wsi_mil.slides import base, opening
_open, read_region = opening._open, base.SlideReader.read_region
def abort_if(slide_id, when):
    if slide_id == "aborts" and os.environ.get("ABORT_WHEN") == when:
        with open(os.environ["ABORTS"], "a") as file:
            file.write(when + "\\n")
        os.abort()
def aborting_open(name, path, slide_id, mpp):
    abort_if(slide_id, "opening")
    return _open(name, path, slide_id, mpp)
def aborting_read(self, *arguments):
    abort_if(self.info.slide_id, "reading")
    return read_region(self, *arguments)
opening._open, base.SlideReader.read_region = aborting_open, aborting_read
"""
KILLED = "killed by signal 6 (SIGABRT)"


@dataclass(frozen=True)
class Lab:
    """Eleven slides, one of which aborts, and where the processes that it ended are counted."""

    folder: Path

    @property
    def slides(self) -> Path:
        return self.folder / "slides"

    def aborts(self) -> int:
        marks = self.folder / "aborts.txt"
        return len(marks.read_text().splitlines()) if marks.exists() else 0

    def call(self, *arguments: object, when: str = "opening") -> subprocess.CompletedProcess[str]:
        paths = [str(self.folder / "site"), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        own = {"PYTHONPATH": os.pathsep.join(paths), "ABORT_WHEN": when}
        return subprocess.run(
            [sys.executable, "-c", "from wsi_mil.cli import main; main()", *map(str, arguments)],
            env={**os.environ, **own, "ABORTS": str(self.folder / "aborts.txt")},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture
def lab(cohort: Path, tmp_path: Path) -> Lab:
    good = sorted(p for p in (cohort / "slides").iterdir() if p.is_file())[:10]
    (tmp_path / "slides").mkdir()
    for path in good:
        shutil.copy(path, tmp_path / "slides")
    shutil.copy(good[0], tmp_path / "slides" / f"aborts{''.join(good[0].suffixes)}")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    return Lab(tmp_path)


def config(lab: Lab, quick_config: dict[str, Any], workers: int) -> Path:
    path = lab.folder / "c.yaml"
    execution = {"workers": workers, "threads": 1}
    values = {"run": str(lab.folder / "r"), "slides": {"folder": str(lab.slides)}, "execution": execution}
    path.write_text(
        yaml.safe_dump({"tiles": quick_config["tiles"], "encoder": {"name": "texture"}, **values})
    )
    return path


def statuses(run: Path, stage: str) -> dict[str, list[str]]:
    """Status -> slides of a stage."""
    found: dict[str, list[str]] = {}
    for row in OutcomeTable(run / "outcomes.csv").rows(stage):
        found.setdefault(row.status, []).append(row.slide_id)
    return found


def check_twice(lab: Lab, run: Path, stage: str, arguments: list[object], when: str) -> None:
    """The first call does ten and fails one; the second changes no row, and opens no slide that aborts."""
    first = lab.call(*arguments, when=when)
    assert first.returncode == 3, first.stderr
    assert "Traceback" not in first.stderr
    found = statuses(run, stage)
    assert (len(found["done"]), found["failed"], len(found)) == (10, ["aborts"], 2)
    [row] = [row for row in OutcomeTable(run / "outcomes.csv").rows(stage) if row.status == "failed"]
    assert row.reason.startswith(KILLED)
    assert f"{stage}: aborts failed: {KILLED}" in first.stderr
    aborts, table = lab.aborts(), (run / "outcomes.csv").read_bytes()
    assert aborts > 0
    second = lab.call(*arguments, when=when)
    assert second.returncode == 3, second.stderr
    assert lab.aborts() == aborts
    assert (run / "outcomes.csv").read_bytes() == table
    assert KILLED in second.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_check(lab: Lab, workers: int) -> None:
    for calls in (1, 2):  # there is no run folder that could remember: each call opens every slide
        found = lab.call("check", lab.slides, "--tile-mpp", 1.0, "--tile-px", 64, "--workers", workers)
        assert found.returncode == 3, found.stderr
        assert "10 of 11 slides can be used" in found.stdout
        [line] = [line for line in found.stdout.splitlines() if line.startswith("aborts")]
        assert f"{KILLED} while opening" in line
        assert lab.aborts() == calls


@pytest.mark.parametrize("workers", [1, 2])
def test_tile(lab: Lab, quick_config: dict[str, Any], workers: int) -> None:
    check_twice(lab, lab.folder / "r", "tile", ["tile", config(lab, quick_config, workers)], "opening")
    [row] = [r for r in OutcomeTable(lab.folder / "r" / "outcomes.csv").rows("tile") if r.status == "failed"]
    assert row.reason == f"{KILLED} while opening"


@pytest.mark.parametrize("workers", [1, 2])
def test_extract_of_a_slide_whose_tiles_abort(lab: Lab, quick_config: dict[str, Any], workers: int) -> None:
    path = config(lab, quick_config, workers)
    assert lab.call("tile", path, when="never").returncode == 0
    check_twice(lab, lab.folder / "r", "extract", ["extract", path], "reading")


@pytest.mark.parametrize("workers", [1, 2])
def test_predict(lab: Lab, small_run: Path, workers: int) -> None:
    out = lab.folder / "predicted"
    arguments = ["predict", small_run / "models" / "focus_mil", lab.slides, "--out", out, "--device", "cpu"]
    check_twice(lab, out, "tile", [*arguments, "--workers", workers], "opening")
    slides = [line.split(",")[0] for line in (out / "predictions.csv").read_text().splitlines()[1:]]
    assert len(slides) == 10
    assert "aborts" not in slides
