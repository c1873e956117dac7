"""FROC against the organisers' own script, for whatever cohorts the reference folder holds."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsi_mil.evaluation import evaluation_mask, froc_curve, match_detections
from wsi_mil.evaluation.froc import Matches

Image.MAX_IMAGE_PIXELS = None


def cohorts(reference_folder: Path) -> list[Path]:
    found = sorted((reference_folder / "froc").glob("cohort_*"))
    if not found:
        pytest.skip("no FROC cohort in WSI_MIL_TEST_REFERENCE")
    return found


def load(cohort: Path) -> tuple[list[Matches], dict[str, Any], dict[str, Any]]:
    expected = json.loads((cohort / "expected.json").read_text())
    matches, masks = [], {}
    for path in sorted((cohort / "detections").glob("*.csv")):
        mask_path = cohort / "masks_level5" / f"{path.stem}.png"
        mask = evaluation_mask(np.asarray(Image.open(mask_path)) == 255) if mask_path.exists() else None
        masks[path.stem] = mask
        with path.open() as handle:
            rows = [(float(p), int(y) / 32, int(x) / 32) for p, x, y in csv.reader(handle)]
        matches.append(match_detections(rows, mask, path.stem))
    return matches, masks, expected


def test_froc_masks_and_isolated_cells_equal_the_reference(reference_folder: Path) -> None:
    for cohort in cohorts(reference_folder):
        _, masks, expected = load(cohort)
        for name, mask in masks.items():
            if mask is None:
                continue
            np.testing.assert_array_equal(
                mask.labels, np.asarray(Image.open(cohort / "expected_masks" / f"{name}.png"))
            )
            labels = expected["slides"][name]["labels"]
            rows = labels.items() if isinstance(labels, dict) else [(item["label"], item) for item in labels]
            isolated = {int(k) for k, item in rows if next(v for key, v in item.items() if "itc" in key.lower())}
            assert set(mask.isolated) == isolated, (cohort.name, name)


def test_froc_curve_and_score_equal_the_reference(reference_folder: Path) -> None:
    for cohort in cohorts(reference_folder):
        matches, _, expected = load(cohort)
        curve = froc_curve(matches)
        assert curve.n_lesions == expected["num_lesions"]
        assert curve.n_slides == expected["num_csv_files"]
        np.testing.assert_allclose(curve.thresholds, expected["froc"]["thresholds"], rtol=0, atol=0)
        fp = np.rint(curve.false_positives * curve.n_slides).astype(int).tolist()
        tp = np.rint(curve.sensitivity * curve.n_lesions).astype(int).tolist()
        assert fp == expected["froc"]["fp_counts"]
        assert tp == expected["froc"]["tp_counts"]
        np.testing.assert_allclose(curve.at, list(expected["sensitivity_at_fps_per_slide"].values()), rtol=0, atol=1e-9)
        assert curve.score == pytest.approx(expected["score"], abs=1e-9)


def test_froc_curves_from_lists_equal_the_reference(reference_folder: Path) -> None:
    path = reference_folder / "froc" / "odd_inputs" / "expected.json"
    if not path.exists():
        pytest.skip("no odd_inputs")
    cases = json.loads(path.read_text())["froc_curve"]
    assert len(cases) > 3
    for case in cases:
        slides = zip(case["fp_probs"], case["tp_probs"], case["lesions"], strict=True)
        curve = froc_curve([Matches(tuple(fp), tuple(tp), n) for fp, tp, n in slides])
        expected = [math.nan if v is None else v for v in case["sensitivities"]]
        np.testing.assert_allclose(curve.at, expected, atol=1e-9, err_msg=case["case"])
        np.testing.assert_allclose(curve.false_positives, case["total_fps_per_slide"], atol=1e-9, err_msg=case["case"])
        mean = math.nan if case["mean"] is None else case["mean"]
        np.testing.assert_allclose(curve.score, mean, atol=1e-9, err_msg=case["case"])
