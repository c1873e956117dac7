"""A library ends the process at each step of each stage: the reason of the failed slide names the step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.stages import handmade
from wsi_mil.run.outcomes import OutcomeTable

pytestmark = pytest.mark.slow

# Python imports it at the start of every process.
SITE = """
import importlib, os
target = os.environ.get("ABORT_IN")
if target:
    module, _, name = target.partition(":")
    place, parts = importlib.import_module(module), name.split(".")
    for part in parts[:-1]:
        place = getattr(place, part)
    setattr(place, parts[-1], lambda *arguments, **named: os.abort())
"""
STEPS = [
    ("tile", "wsi_mil.slides.opening:_open", "opening"),
    ("tile", "wsi_mil.stages.tile:find_tissue", "finding tissue"),
    ("tile", "wsi_mil.stages.tile:write_tissue", "writing the outline of the tissue"),
    ("tile", "wsi_mil.stages.tile:read_scaled", "drawing the preview"),
    ("tile", "wsi_mil.features.store:SlideStore.write_tiles", "writing tiles"),
    ("extract", "wsi_mil.slides.opening:_open", "opening"),
    ("extract", "wsi_mil.slides.base:SlideReader.read_region", "reading tiles"),
    ("extract", "wsi_mil.encoders.views:View.__call__", "computing features"),
    ("extract", "wsi_mil.features.writing:FeatureWriter.append", "writing features"),
]


@pytest.mark.parametrize(("stage", "target", "doing"), STEPS)
def test_the_step_is_named(stage: str, target: str, doing: str, tmp_path: Path) -> None:
    handmade.source(tmp_path / "slides")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    values = {
        "run": str(tmp_path / "run"),
        "slides": {"folder": str(tmp_path / "slides")},
        "tissue": handmade.TISSUE,
        "tiles": {"mpp": 1.0, "size_px": 64},
        "encoder": {"name": "texture"},
        "execution": {"workers": 1, "threads": 2},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    if stage == "extract":
        assert call(tmp_path, "tile", "").returncode == 0
    found = call(tmp_path, stage, target)
    assert found.returncode == 3, found.stderr
    [row] = OutcomeTable(tmp_path / "run" / "outcomes.csv").rows(stage)
    killed, _, during = row.reason.partition(" while ")
    assert killed == "killed by signal 6 (SIGABRT)"
    # Two threads may be at work: which of them ended the process is not known.
    assert doing in during.split(" and ")
    assert during == doing or stage == "extract"


def call(folder: Path, stage: str, target: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "ABORT_IN": target}
    return subprocess.run(
        [sys.executable, "-c", "from wsi_mil.cli import main; main()", stage, str(folder / "c.yaml")],
        env={**os.environ, **own},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
