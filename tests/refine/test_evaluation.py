"""Comparing refined and tile-level maps, on hand-made counts and matches."""

import json
import math
import pickle

import numpy as np
import pytest
from sklearn.metrics import f1_score

from wsi_mil.errors import DataError
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.pixel_metrics import THRESHOLDS, PixelCounts
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.refine.evaluation import ComparedSlide, MapMeasures, compare_maps, pooled_dice

SPEC = EvaluationSpec(bootstrap=40, seed=3)
OWN = 0.4


def pixels(seed: int, noise: float, tumour: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores of 600 pixels; more noise makes a worse map."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(600) < 150) & tumour
    return truth, np.clip(0.3 + 0.35 * truth + noise * rng.normal(size=600), 0, 1)


def measures(truth: np.ndarray, scores: np.ndarray, found: float) -> MapMeasures:
    called = scores[None] >= np.array([*THRESHOLDS, OWN])[:, None]
    counts = PixelCounts(
        called.sum(1).astype(float), (called & truth).sum(1).astype(float), float(truth.sum())
    )
    return MapMeasures(counts, Matches((0.3,), (found,) if truth.any() else (), int(truth.any())))


def slide(number: int, part: str = "test", tumour: bool = True) -> ComparedSlide:
    """The refined map has less noise than the tiles, and finds the lesion with a higher probability."""
    tiles, refined = pixels(number, 0.4, tumour), pixels(number + 100, 0.05, tumour)
    return ComparedSlide(
        f"s{number}",
        f"p{number // 2}",
        part,
        OWN,
        f"m{number % 2}",
        measures(*tiles, 0.2),
        measures(*refined, 0.9),
    )


TEST = [slide(n) for n in range(6)]
VALIDATION = [slide(n, "val") for n in range(20, 23)]


def test_pooled_dice_is_the_f1_of_all_pixels() -> None:
    truth = np.concatenate([pixels(n, 0.4)[0] for n in range(6)])
    scores = np.concatenate([pixels(n, 0.4)[1] for n in range(6)])
    for threshold, chosen in ((OWN, None), (0.62, 0.62)):
        expected = f1_score(truth, scores >= threshold)
        assert pooled_dice(TEST, "tiles", chosen) == pytest.approx(expected)
    assert pooled_dice(TEST, "refined", None) > pooled_dice(TEST, "tiles", None)


def test_the_comparison_is_refined_minus_tiles_on_test_slides_only() -> None:
    found = compare_maps("m", [*TEST, *VALIDATION, slide(30, "train")], SPEC)
    assert (found.test_slides, found.validation_slides) == (6, 3)
    assert found.model_digests == ("m0", "m1")
    assert found.own_thresholds == (OWN,)
    assert found.dice_own.first == pooled_dice(TEST, "refined", None)
    assert found.dice_own.second == pooled_dice(TEST, "tiles", None)
    assert found.dice_own.difference == found.dice_own.first - found.dice_own.second > 0
    assert found.dice_own.low <= found.dice_own.difference <= found.dice_own.high
    assert found.froc.first > found.froc.second
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_second_threshold_has_the_best_dice_on_validation_slides() -> None:
    found = compare_maps("m", [*TEST, *VALIDATION], SPEC)
    dice = {t: pooled_dice(VALIDATION, "refined", float(t)) for t in THRESHOLDS}
    assert dice[found.best.refined] == max(dice.values())
    assert found.dice_validation is not None
    assert found.dice_validation.first == pooled_dice(TEST, "refined", found.best.refined)
    assert found.dice_validation.second == pooled_dice(TEST, "tiles", found.best.tiles)


def test_without_tumour_on_validation_slides_there_is_no_second_threshold() -> None:
    found = compare_maps("m", [*TEST, slide(20, "val", tumour=False)], SPEC)
    assert not found.best.known
    assert math.isnan(found.best.tiles)
    assert found.dice_validation is None
    written = found.as_json()
    assert list(written["dice"]) == ["own"]
    assert written["thresholds"]["validation"] == {"tiles": None, "refined": None}


def test_the_file_has_no_nan_and_says_what_it_is() -> None:
    normal = [slide(n, tumour=False) for n in range(3)]
    written = compare_maps("m", normal, SPEC).as_json()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert (written["kind"], written["format_version"], written["model"]) == ("refinement", 1, "m")
    assert written["froc"]["difference"] is None


def test_without_test_slides_it_is_refused() -> None:
    with pytest.raises(DataError, match="no test slide of 'm'"):
        compare_maps("m", VALIDATION, SPEC)
