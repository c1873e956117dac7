"""Refined maps against tiles: Dice and FROC of hand-made slides, and the file that holds them."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from tests.heatmaps.test_heatmaps import INFO, table
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import SlideScoreRow, SlideScores
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.pixel_metrics import THRESHOLDS, PixelCounts
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.heatmaps.refined import RefinedMaps
from wsi_mil.io.json import write_json
from wsi_mil.refine.evaluation import (
    ComparedSlide,
    MapResult,
    MapThresholds,
    best_thresholds,
    compared_slide,
    evaluate_refinement,
    pooled_dice,
)
from wsi_mil.refine.evaluation_file import read_refinement, write_refinement

SPEC = EvaluationSpec(bootstrap=50, froc_mode="corrected")


def counts(at_half: tuple[float, float], own: tuple[float, float], tumour: float) -> PixelCounts:
    """Counts (called, hits) at thresholds up to 0.5 and at the slide's own; above 0.5 nothing is called."""
    low = THRESHOLDS <= 0.5
    called, hits = (np.append(np.where(low, at_half[i], 0.0), own[i]) for i in (0, 1))
    return PixelCounts(called, hits, tumour)


def slide(name: str, part: str = "test", tumour: float = 100.0) -> ComparedSlide:
    found = Matches((0.6,), (0.9,) if tumour else (), 1 if tumour else 0)
    missed = Matches((0.6,), (0.0,) if tumour else (), 1 if tumour else 0)
    return ComparedSlide(
        name,
        f"patient of {name}",
        part,
        0.7,
        f"model of {name}",
        tiles=MapResult(counts((200, 100 if tumour else 0), (100, 50 if tumour else 0), tumour), missed),
        refined=MapResult(counts((100, 100 if tumour else 0), (100, 75 if tumour else 0), tumour), found),
    )


def test_differences_are_those_of_counts_by_hand() -> None:
    slides = [slide("b"), slide("a"), slide("v", part="val"), slide("n", tumour=0.0)]
    found = evaluate_refinement("m", slides, SPEC)
    assert (found.test_slides, found.validation_slides) == (3, 1)
    assert found.model_digests == ("model of a", "model of b", "model of n")
    assert found.own_thresholds == (0.7,)
    # three slides call 100 each at their own threshold, two hold 100 of tumour
    assert (found.dice_own.first, found.dice_own.second) == (2 * 150 / 500, 2 * 100 / 500)
    # the first of equally good thresholds; tiles call 200 on each of three slides there
    assert found.validation_thresholds == MapThresholds(0.01, 0.01)
    assert found.dice_validation is not None
    assert (found.dice_validation.first, found.dice_validation.second) == (2 * 200 / 500, 2 * 200 / 800)
    # lesions of 0.9 come before false positives of 0.6; a model that finds none has a sensitivity of 0
    assert (found.froc.first, found.froc.second, found.froc.difference) == (1.0, 0.0, 1.0)
    assert [title for title, _ in found.titled()] == [
        "pixel Dice, the model's threshold",
        "pixel Dice, threshold of validation slides",
        "FROC",
    ]


def test_without_lesions_on_validation_slides_there_is_no_threshold_of_theirs() -> None:
    found = evaluate_refinement("m", [slide("a"), slide("v", part="val", tumour=0.0)], SPEC)
    assert (found.validation_thresholds, found.dice_validation) == (None, None)
    assert [title for title, _ in found.titled()] == ["pixel Dice, the model's threshold", "FROC"]
    assert best_thresholds([]) is None
    with pytest.raises(DataError, match="belong together"):
        replace(found, validation_thresholds=MapThresholds(0.1, 0.1))


def test_without_a_test_slide_there_is_nothing_to_compare() -> None:
    with pytest.raises(DataError, match="no test slide of 'm'"):
        evaluate_refinement("m", [slide("v", part="val")], SPEC)


def test_the_nearest_threshold_is_taken_or_each_slides_own() -> None:
    maps = [slide("a").refined]
    assert pooled_dice(maps, 0.503) == 1.0
    assert math.isnan(pooled_dice([slide("n", tumour=0.0).refined], 0.9))  # neither call nor tumour
    assert pooled_dice(maps, None) == 2 * 75 / 200
    with pytest.raises(DataError, match="100 thresholds, got 1"):
        MapResult(PixelCounts(np.zeros(1), np.zeros(1), 0.0), Matches((), (), 0))


def test_both_maps_of_a_slide_lie_on_its_lesions() -> None:
    tiles = table()
    x0, y0 = (float(value) for value in tiles.coords[10])
    width, height = tiles.plan.tile_width0_px, tiles.plan.tile_height0_px
    lesion = Lesion("s/1", "tumour", shapely.MultiPolygon([shapely.box(x0, y0, x0 + width / 2, y0 + height)]))
    values = np.zeros(len(tiles), np.float32)
    values[10] = 0.9
    scores = SlideScores("s/1", 0.9, (0.1, 0.9), values, "probability", tiles.coords, "t", "f", "m")
    left_half = np.zeros((1, 16, 16), np.uint8)
    left_half[:, :, :8] = 255
    maps = RefinedMaps("s/1", np.array([10], np.int32), left_half, "t", "m", "r")
    row = SlideScoreRow("s/1", "p", 0, "test", 1, 0.9, 0.5, True, len(tiles), "t", "f", "m")
    found = compared_slide(row, INFO, tiles, scores, maps, [lesion], SPEC)
    assert (found.threshold, found.part, found.model_digest) == (0.5, "test", "m")
    # the tile is called whole although half of it is tumour; the refined map calls that half
    assert pooled_dice([found.tiles], None) == pytest.approx(2 / 3, abs=0.03)
    assert pooled_dice([found.refined], None) > 0.95
    assert found.refined.counts.tumour == pytest.approx(0.5 * 64 * 64, rel=0.05)  # µm² at 1 µm per pixel
    assert found.refined.matches.false_positives == ()


def test_the_file_reads_back_and_has_the_agreed_keys(tmp_path: Path) -> None:
    path = tmp_path / "refine.json"
    found = evaluate_refinement("m", [slide("a"), slide("b"), slide("v", part="val")], SPEC)
    write_refinement(path, found)
    assert read_refinement(path) == found
    text = json.loads(path.read_text())
    assert text["format_version"] == 1
    assert text["thresholds"] == {"own": [0.7], "validation": {"tiles": 0.01, "refined": 0.01}}
    assert set(text["dice"]) == {"own", "validation"}
    keys = {"first", "second", "difference", "low", "high", "p_two_sided", "draws", "reason"}
    assert set(text["froc"]) == keys
    without = evaluate_refinement("m", [slide("a")], replace_bootstrap(0))
    write_refinement(path, without)
    text = json.loads(path.read_text())
    assert text["thresholds"]["validation"] == {"tiles": None, "refined": None}
    assert set(text["dice"]) == {"own"}
    assert text["froc"]["low"] is None
    again = read_refinement(path)
    assert math.isnan(again.froc.low)
    assert replace(again.froc, low=0, high=0, p_two_sided=0) == replace(
        without.froc, low=0, high=0, p_two_sided=0
    )


def replace_bootstrap(draws: int) -> EvaluationSpec:
    return SPEC.model_copy(update={"bootstrap": draws})


def test_a_file_of_before_reasons_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "refine.json"
    write_refinement(path, evaluate_refinement("m", [slide("a"), slide("v", part="val")], SPEC))
    text = json.loads(path.read_text())
    for one in (*text["dice"].values(), text["froc"]):
        del one["reason"]
    write_json(path, text)
    assert read_refinement(path).froc.reason == ""
    write_json(path, text | {"format_version": 2})
    with pytest.raises(StoreError, match="has format 2, this version reads 1"):
        read_refinement(path)
    del text["froc"]
    write_json(path, text)
    with pytest.raises(StoreError, match=r"is damaged \(KeyError: 'froc'"):
        read_refinement(path)
