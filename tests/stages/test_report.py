"""The report stage on a run folder without models: written once, and again when what it shows has changed."""

from pathlib import Path

from tests.stages import handmade
from wsi_mil.config import save_config, write_provenance
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.run.context import RunContext
from wsi_mil.stages import report


def context(folder: Path) -> RunContext:
    found = handmade.context(folder, (handmade.source(folder / "slides"),))
    write_provenance(found.run.path, found.config)
    save_config(found.config, found.run.path / "config.yaml")
    return found


def test_a_page_is_written_once(tmp_path: Path) -> None:
    found = context(tmp_path)
    assert report.run(found) == 1
    page = found.run.report.read_bytes()
    assert b"<html" in page
    assert report.run(found) == 0
    assert found.run.report.read_bytes() == page


def test_a_slide_that_failed_since_is_shown(tmp_path: Path) -> None:
    found = context(tmp_path)
    report.run(found)
    found.run.ledger.put(Outcome("s0", "tile", "failed", "no pixels at level 0"))
    assert report.run(found) == 1
    assert "no pixels at level 0" in found.run.report.read_text(encoding="utf-8")


def test_models_without_scores_are_left_out(tmp_path: Path) -> None:
    found = context(tmp_path)
    assert list(found.config.models) == [handmade.MODEL]
    assert report.run(found) == 1
    assert 'id="metrics"' not in found.run.report.read_text(encoding="utf-8")
