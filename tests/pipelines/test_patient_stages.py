"""Lengths of regions, classes of nodes and stages of patients, from score tables made by hand."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.camelyon.patients import longest_region_um, patient_stages, stage_agreement
from tests.stages import handmade
from wsi_mil.contracts.scores import SlideScoresHeader
from wsi_mil.io.json import json_text
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import write_slide_scores, write_tile_scores


def run_with(folder: Path, **values: np.ndarray) -> RunFolder:
    """A run in which each slide has these tile scores (4 rows of 6 tiles of 64 µm)."""
    run = RunFolder(folder)
    for slide_id, scores in values.items():
        handmade.store_tiles(run, slide_id)
        write_tile_scores(run.tile_scores("m", slide_id), handmade.scores(scores.reshape(-1), slide_id))
    return run


def marked(*tiles: tuple[int, int]) -> np.ndarray:
    """Scores of 0.9 at these (row, column) and 0.1 elsewhere."""
    found = np.full((4, 6), 0.1, np.float32)
    for tile in tiles:
        found[tile] = 0.9
    return found


def test_the_longest_region_counts(tmp_path: Path) -> None:
    run = run_with(tmp_path, s0=marked((0, 0), (2, 1), (2, 2), (2, 3), (2, 4)))
    # the major axis of a rectangle is that of the ellipse with the same second moments
    wanted = 4 * 64 * 2 / np.sqrt(3)
    assert longest_region_um(run, "m", "s0", 0.5) == pytest.approx(wanted, rel=0.05)
    assert longest_region_um(run, "m", "s0", 0.95) == 0


def test_a_patient_has_the_stage_of_its_nodes(tmp_path: Path) -> None:
    run = run_with(tmp_path, a=marked((0, 0)), b=marked((1, 1), (1, 2), (1, 3)))
    rows = [handmade.score_row("a", 0.2), handmade.score_row("b"), handmade.score_row("c", part="val")]
    write_slide_scores(run.slide_scores("m"), rows, SlideScoresHeader("m", "", 1))
    truth = {"patient of a": "pN0", "patient of b": "pN1mi", "patient of c": "pN1"}
    found = patient_stages(run, "m", truth)
    assert [(p.patient, p.nodes, p.predicted, p.truth) for p in found] == [
        ("patient of a", ("negative",), "pN0", "pN0"),
        ("patient of b", ("micro",), "pN1mi", "pN1mi"),
    ]
    written = stage_agreement(found, np.random.default_rng(0), 20).as_json()
    assert (written["kind"], written["patients"]) == ("pN-stages", 2)
    assert json_text(written)
