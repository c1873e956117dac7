"""The colon nuclei study: the stages can read the files of its mosaics, and its table holds both scores."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.crc.features import model_rows
from pipelines.crc.mosaics import TILE_PX, write_mosaics
from wsi_mil.evaluation.annotations import read_annotations
from wsi_mil.io.json import write_json
from wsi_mil.run.folder import RunFolder


def test_annotations_cover_the_cancerous_patches(tmp_path: Path) -> None:
    """Patient 7 has five patches in three columns, of which the second and the last one are cancerous."""
    cancerous = np.array([False, True, False, False, True, False])
    images = np.random.default_rng(0).integers(0, 255, (6, TILE_PX, TILE_PX, 3), np.uint8)
    np.savez(tmp_path / "data.npz", images=images, patient=[7] * 5 + [8], cancerous=cancerous)
    truth = write_mosaics(tmp_path / "data.npz", tmp_path / "mosaics")
    assert {slide: values.tolist() for slide, values in truth.items()} == {
        "patient_007": cancerous[:5].tolist(),
        "patient_008": [False],
    }
    folder = tmp_path / "mosaics" / "annotations"
    lesions = read_annotations(folder / "patient_007.geojson", "patient_007")
    bounds = sorted(lesion.geometry.bounds for lesion in lesions)
    side = TILE_PX  # row and column of the patches: (0, 1) and (1, 1), which touch and are one lesion
    assert bounds == [(side, 0, 2 * side, 2 * side)]
    assert read_annotations(folder / "patient_008.geojson", "patient_008") == []
    assert (tmp_path / "mosaics" / "labels.csv").read_text().splitlines()[1:] == [
        "patient_007,1,patient_007",
        "patient_008,0,patient_008",
    ]


def test_the_table_has_a_row_for_each_tile_score(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)

    def patch(kind: str, mean: float) -> dict[str, object]:
        within = {"auc": {"mean": mean / 2, "n_slides": 3}}
        folds = {"mean": mean, "std": 0.01}
        return {"score_kind": kind, "folds": folds, "per_slide": within, "auprc": mean / 4}

    slide = {"folds": {"mean": 0.9, "std": 0.02}}
    two = {"slide": slide, "patch": patch("attention", 0.8), "patch_second": patch("logit", 0.6)}
    write_json(run.evaluation("two") / "metrics.json", two)
    one = {"slide": slide, "patch": patch("logit", 0.7), "patch_second": None}
    write_json(run.evaluation("one") / "metrics.json", one)
    assert model_rows(run, ["two", "one"]) == [
        ["two", "attention", "0.900", "0.020", "0.800", "0.010", "0.400", "0.200"],
        ["two", "logit", "0.900", "0.020", "0.600", "0.010", "0.300", "0.150"],
        ["one", "logit", "0.900", "0.020", "0.700", "0.010", "0.350", "0.175"],
    ]
    with pytest.raises(FileNotFoundError):
        model_rows(run, ["none"])
