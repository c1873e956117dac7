"""Lengths of lesions, bands over them, and detections of touching tiles, worked by hand."""

import math

import numpy as np
import pytest
import shapely
from shapely import MultiPolygon, affinity

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import SlideScoreRow, SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.evaluation.curves import FALSE_POSITIVES, froc_at, lesion_curve
from wsi_mil.evaluation.detections import find_detections
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.froc_polygons import major_axis
from wsi_mil.evaluation.observations import LesionObservations
from wsi_mil.evaluation.paired import paired_bootstrap
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import held_out_slide
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import mask_from_polygons

INFO = SlideInfo("s", "", ((900, 700),), (1.0,), 0.5, 0.5, "test", None, "", "", "")


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 137])
@pytest.mark.parametrize("place", [(0, 0), (5000, 300)])
def test_the_axis_of_a_rectangle_is_its_length_times_a_constant(angle: float, place: tuple[int, int]) -> None:
    """The variance of a side of length L is L² / 12, whatever the rotation and the place."""
    box = affinity.translate(affinity.rotate(shapely.box(0, 0, 600, 80), angle), *place)
    assert major_axis(box) == pytest.approx(4 * 600 / math.sqrt(12))


def test_the_axis_of_a_triangle() -> None:
    """The covariance of a triangle is that of its corners, taken with 1 / 3, divided by four."""
    corners = np.array([[0.0, 0], [90, 10], [20, 50]])
    largest = np.linalg.eigvalsh(np.cov(corners.T, bias=True) / 4)[-1]
    assert major_axis(shapely.Polygon(corners)) == pytest.approx(4 * math.sqrt(largest))


def test_the_band_of_the_free_response_curve_holds_the_curve() -> None:
    matches = tuple(Matches((0.1 * (i % 5),), (0.9, 0.3 * (i % 3)), 2) for i in range(12))
    found = lesion_curve(LesionObservations(tuple(map(str, range(12))), matches), 0, "m", 60)
    middle = froc_at(list(matches), "corrected")
    assert len(found.band.low) == len(FALSE_POSITIVES)
    assert (np.array(found.band.low) <= middle).all()
    assert (np.array(found.band.high) >= middle).all()
    assert np.subtract(found.band.high, found.band.low).max() > 0


TISSUE = mask_from_polygons(shapely.box(0, 0, 900, 700), INFO, 8.0, "whole")
TABLE = tile_slide(INFO, TISSUE, TileSpec(mpp=1.0, size_px=100))  # 4 x 3 tiles of 200 level-0 px


def scores_of(kind: str, values: list[float]) -> SlideScores:
    """Scores of the first tiles; the others could not be read."""
    tiles = np.full(len(TABLE), np.nan, np.float32)
    tiles[: len(values)] = values
    return SlideScores("s", 0.7, (0.3, 0.7), tiles, kind, TABLE.coords, TABLE.digest(), "f", "m")


def test_attention_calls_a_tile_that_has_more_than_an_equal_part() -> None:
    """Of four readable tiles each would have a fourth; the tile with exactly a fourth is not called."""
    found = scores_of("attention", [0.3, 0.25, 0.2, 0.25]).called_tiles(0.6)
    assert found[:4].tolist() == [True, False, False, False]
    assert not found[4:].any(), "a tile that could not be read is not called"


def test_a_probability_calls_a_tile_from_the_threshold_on() -> None:
    found = scores_of("probability", [0.5, 0.49, 0.51]).called_tiles(0.5)
    assert found[:3].tolist() == [True, False, True]


def test_the_smallest_p_of_a_bootstrap_is_that_of_its_draws() -> None:
    """All 99 draws are on one side of 0: twice (0 + 1) / (99 + 1)."""
    rows = np.arange(20.0)
    found = paired_bootstrap(
        lambda r: rows[r].mean() + 1,
        lambda r: rows[r].mean(),
        list(map(str, range(20))),
        np.random.default_rng(0),
        draws=99,
    )
    assert found.p_two_sided == pytest.approx(2 / 100)
    assert found.draws == 99


def test_tiles_that_touch_by_a_corner_are_one_detection() -> None:
    values = [0.9, 0.0, 0.0, 0.8, 0.0, 0.6, 0.0, 0.0]  # (0, 0) touches (1, 1); (3, 0) is alone
    found = find_detections(
        scores_of("probability", values), TABLE, radius_um=1, min_probability=0.5, method="components"
    )
    assert [(d.x0_px, d.y0_px) for d in found] == [(200, 200), (700, 100)]
    assert [d.score01 for d in found] == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("truth", ["overlap", "centre"])
def test_what_one_held_out_slide_contributes(truth: str) -> None:
    """A lesion of 900 x 205 level-0 px covers the first row of tiles and touches the second."""
    lesion = Lesion("s", "tumour", MultiPolygon([shapely.box(0, 0, 900, 205)]))
    row = SlideScoreRow("s", "p", 2, "test", 1, 0.7, 0.55, True, len(TABLE), TABLE.digest(), "f", "m")
    scores = scores_of("probability", [0.9, 0.5, 0.6, 0.1, 0.95, 0.2])
    spec = EvaluationSpec(patch_truth=truth, detections="tiles", isolated_below_um=0)
    found = held_out_slide(row, INFO, TABLE, scores, [lesion], spec)
    assert (found.slide_id, found.patient, found.fold, found.threshold) == ("s", "p", 2, 0.55)
    assert (found.tiles.slide_id, found.tiles.group) == ("s", "p")
    assert found.tiles.truth.tolist() == [True] * 4 + [False] * 8
    assert found.tiles.called.tolist() == [True, False, True, False, True] + [False] * 7
    assert [round(d.score01, 2) for d in found.detections] == [0.95, 0.9, 0.6, 0.5, 0.2, 0.1]
    assert found.matches.true_positives == pytest.approx((0.9,))
    assert sorted(found.matches.false_positives) == pytest.approx([0.2, 0.95])
    assert [lesion.slide_id for lesion in found.lesions] == ["s"]
