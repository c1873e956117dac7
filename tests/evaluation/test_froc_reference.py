"""FROC against the organisers' own script, for whatever cohorts the reference folder holds."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsi_mil.errors import DataError
from wsi_mil.evaluation import evaluation_mask, froc_curve, match_detections
from wsi_mil.evaluation.detection_files import read_detections
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
        rows = [(d.score01, d.y0_px / 32, d.x0_px / 32) for d in read_detections(path)]
        matches.append(match_detections(rows, mask, path.stem))
    return matches, masks, expected


def test_froc_masks_and_isolated_cells_equal_the_reference(reference_folder: Path) -> None:
    for cohort in cohorts(reference_folder):
        _, masks, expected = load(cohort)
        for name, mask in masks.items():
            if mask is None:
                continue
            np.testing.assert_array_equal(
                mask.whole(), np.asarray(Image.open(cohort / "expected_masks" / f"{name}.png"))
            )
            labels = expected["slides"][name]["labels"]
            rows = labels.items() if isinstance(labels, dict) else [(item["label"], item) for item in labels]
            isolated = {
                int(k) for k, item in rows if next(v for key, v in item.items() if "itc" in key.lower())
            }
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
        np.testing.assert_allclose(
            curve.at, list(expected["sensitivity_at_fps_per_slide"].values()), rtol=0, atol=1e-9
        )
        assert curve.score == pytest.approx(expected["score"], abs=1e-9)


def odd_inputs(reference_folder: Path) -> dict[str, Any]:
    path = reference_folder / "froc" / "odd_inputs" / "expected.json"
    if not path.exists():
        pytest.skip("no odd_inputs in WSI_MIL_TEST_REFERENCE")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def test_froc_curves_from_lists_equal_the_reference(reference_folder: Path) -> None:
    cases = odd_inputs(reference_folder)["froc_curve"]
    assert len(cases) > 3
    for case in cases:
        slides = zip(case["fp_probs"], case["tp_probs"], case["lesions"], strict=True)
        curve = froc_curve([Matches(tuple(fp), tuple(tp), n) for fp, tp, n in slides])
        expected = [math.nan if v is None else v for v in case["sensitivities"]]
        np.testing.assert_allclose(curve.at, expected, atol=1e-9, err_msg=case["case"])
        np.testing.assert_allclose(
            curve.false_positives, case["total_fps_per_slide"], atol=1e-9, err_msg=case["case"]
        )
        mean = math.nan if case["mean"] is None else case["mean"]
        np.testing.assert_allclose(curve.score, mean, atol=1e-9, err_msg=case["case"])


def test_froc_csv_reading_equals_the_reference_or_says_what_is_wrong(
    reference_folder: Path, tmp_path: Path
) -> None:
    """Files that the script reads give equal detections; all others are refused with the line."""
    for number, case in enumerate(odd_inputs(reference_folder)["csv_reading"]):
        path = tmp_path / f"slide_{number}.csv"
        path.write_bytes(case["text"].encode())
        nonsense = None in case.get("probs", []) or min([0, *case.get("x", []), *case.get("y", [])]) < 0
        if "error" in case or nonsense:
            with pytest.raises(DataError, match=rf"slide_{number}.csv, line \d: expected `probability,x,y`"):
                read_detections(path)
        else:
            found = [(d.score01, d.x0_px, d.y0_px) for d in read_detections(path)]
            assert found == list(zip(case["probs"], case["x"], case["y"], strict=True)), case["case"]


def test_froc_points_at_the_border_equal_the_reference(reference_folder: Path) -> None:
    cases = odd_inputs(reference_folder)["coordinates"]
    tumour = np.asarray(Image.open(reference_folder / "froc" / "odd_inputs" / "mask_level5.png")) == 255
    mask = evaluation_mask(tumour)
    assert [int((mask.whole() == k + 1).sum()) for k in range(mask.count)] == cases["areas_px"]
    assert list(mask.isolated) == cases["itc_labels"]
    for case in cases["cases"]:
        point = (0.5, case["y"] / 32, case["x"] / 32)
        assert match_detections([point], None).false_positives == (0.5,)
        inside = 0 <= case["x"] < 32 * tumour.shape[1] and 0 <= case["y"] < 32 * tumour.shape[0]
        if not inside:  # the script wraps or stops
            with pytest.raises(DataError, match="lies outside its mask of"):
                match_detections([point], mask)
            continue
        found, outcome = match_detections([point], mask), case["outcome_original"]
        assert found.false_positives == ((0.5,) if outcome == "false positive" else ())
        hit = int(outcome.split()[-1]) if outcome.startswith("hit") else 0
        assert [i + 1 for i, p in enumerate(found.true_positives) if p] == ([hit] if hit else [])


def test_froc_special_masks_equal_the_reference(reference_folder: Path) -> None:
    """An empty mask has the script's phantom in official mode, and nothing in corrected mode."""
    for name, case in odd_inputs(reference_folder)["special_masks"].items():
        full = "255" in name and "instead" not in name
        mask = evaluation_mask(np.full((96, 128), full))
        assert mask.count == case["labels"]
        assert list(mask.isolated) == case["itc"]
        if isinstance(case["pixels"], int):
            assert int((mask.whole() > 0).sum()) == case["pixels"]
        else:
            assert np.argwhere(mask.whole()).tolist() == case["pixels"]
            assert evaluation_mask(np.full((96, 128), full), mode="corrected").count == 0


def test_froc_corrected_mode_equals_the_reference_without_single_precision(reference_folder: Path) -> None:
    """All thresholds in double precision: equal to `double_precision` if the script dropped only a zero."""
    for cohort in cohorts(reference_folder):
        matches, _, expected = load(cohort)
        smallest = min(p for slide in matches for p in (*slide.false_positives, *slide.true_positives))
        curve = froc_curve(matches, "corrected")
        assert smallest == 0, "the cohorts hold a missed lesion each; take another check if one does not"
        want = expected["double_precision"]
        assert curve.score == pytest.approx(want["score"], abs=1e-9)
