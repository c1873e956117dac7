"""File names that are no UTF-8, hold control characters or are very long: their slides are done, too."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wsi_mil.config.loading import parse_config
from wsi_mil.io.json import read_json
from wsi_mil.io.tables import write_csv
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides import find_slides
from wsi_mil.stages import run_pipeline

NAMES: dict[bytes, str] = {
    b"sl\xe9de.tiff": "sl%E9de",
    b"line\nbreak.tiff": "line%0Abreak",
    b"back\\slash.tiff": "back%5Cslash",
    b"=1+1.tiff": "=1+1",
    b"C:y.tiff": "C%3Ay",
    b"x" * 250 + b".tiff": "x" * 163 + "~",
}


@pytest.mark.slow
def test_a_run_of_slides_with_odd_names(cohort: Path, quick_config: dict[str, Any], tmp_path: Path) -> None:
    folder, run = tmp_path / "slides", RunFolder(tmp_path / "run")
    folder.mkdir()
    slides = sorted((cohort / "slides").glob("*.tiff"))
    for name, slide in zip(NAMES, slides, strict=False):
        shutil.copy(slide, os.path.join(os.fsencode(folder), name))
    config = {**quick_config, "run": str(run.path), "slides": {"folder": str(folder)}}
    summary = run_pipeline(parse_config(config))
    assert summary.failed == []
    ids = run.stored_slides()
    assert len(ids) == len(NAMES)
    for expected in NAMES.values():
        assert sum(name.startswith(expected) for name in ids) == 1, ids
    assert {row.slide_id for row in run.ledger.rows("extract")} == set(ids)
    again = RunFolder(run.path).ledger  # outcomes.csv, read again
    assert {row.slide_id for row in again.rows("extract")} == set(ids)
    assert read_json(run.path / "provenance.json")
    assert all(name.encode() for name in ids)


def command_line(*arguments: str | bytes | Path) -> subprocess.CompletedProcess[bytes]:
    """Run `wsi-mil` where the terminal takes ASCII only."""
    code = "from wsi_mil.cli.main import main; main()"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict"}
    words = [os.fsencode(argument) for argument in arguments]
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, env=environment, check=False
    )


@pytest.mark.slow
def test_the_command_line_with_odd_names(cohort: Path, tmp_path: Path) -> None:
    """check, tile with labels of escaped ids; a run folder that no library can open is refused by name."""
    folder = os.fsencode(tmp_path / "slides")
    os.makedirs(os.path.join(folder, b"c\xe9ntre"))
    for name, slide in zip(NAMES, sorted((cohort / "slides").glob("*.tiff")), strict=False):
        shutil.copy(slide, os.path.join(folder, b"c\xe9ntre", name))
    ids = [slide.slide_id for slide in find_slides(tmp_path / "slides")]
    assert sorted(ids)[0].startswith("c%E9ntre/")
    labels = tmp_path / "labels.csv"
    write_csv(
        labels, ["slide", "label"], [[name, "tumor"] for name in ids[:2]] + [[n, "normal"] for n in ids[2:]]
    )
    checked = command_line("check", folder)
    assert (
        checked.returncode,
        f"{len(ids)} of {len(ids)} slides can be used" in checked.stdout.decode(),
    ) == (0, True)
    config = tmp_path / "config.yaml"
    config.write_text("tiles: {mpp: 1.0, size_px: 64}\nexecution: {workers: 1, threads: 1}\n")
    given = [f"run={tmp_path / 'run'}", f"slides.folder={tmp_path / 'slides'}", f"slides.labels={labels}"]
    tiled = command_line("tile", config, *given)
    assert tiled.returncode == 0, tiled.stderr
    assert RunFolder(tmp_path / "run").stored_slides() == sorted(ids)
    odd = os.path.join(os.fsencode(tmp_path), b"r\xe9un")
    os.rename(tmp_path / "run", odd)
    refused = command_line("tile", odd)
    assert refused.returncode == 1
    assert b"its name is not UTF-8" in refused.stderr
    assert b"Traceback" not in refused.stderr
