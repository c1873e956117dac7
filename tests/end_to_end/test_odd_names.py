"""File names that are no UTF-8, hold control characters or are very long: their slides are done, too."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from wsi_mil.config.loading import parse_config
from wsi_mil.io.json import read_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_pipeline

NAMES = {
    b"sl\xe9de.tiff": "sl%E9de",
    b"line\nbreak.tiff": "line%0Abreak",
    b"back\\slash.tiff": "back%5Cslash",
    b"=1+1.tiff": "=1+1",
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
