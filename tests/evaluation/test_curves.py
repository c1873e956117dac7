"""Bands, calibration and lesion tables against values worked by hand or by another library."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import Detection
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import StoreError
from wsi_mil.evaluation.calibration import calibration
from wsi_mil.evaluation.curves import (
    FALSE_POSITIVES,
    band,
    froc_at,
    lesion_curve,
    precision_at,
    roc_at,
    slide_curves,
)
from wsi_mil.evaluation.curves_file import ModelCurves, read_curves, write_curves
from wsi_mil.evaluation.froc import Matches, froc_curve
from wsi_mil.evaluation.lesion_tables import false_positive_rows, found_by_size, lesion_rows
from wsi_mil.evaluation.observations import LabelledTiles, LesionObservations, SlideObservations
from wsi_mil.evaluation.results import SizeClass
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import HeldOutSlide, match_slide
from wsi_mil.geojson import polygonal
from wsi_mil.io.json import read_json

shapely = pytest.importorskip("shapely")


def test_roc_and_precision_at_places() -> None:
    truth = np.array([1, 0, 1, 1, 0], bool)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    np.testing.assert_allclose(roc_at(truth, scores, np.array([0, 0.4, 0.5, 1])), [1 / 3, 1 / 3, 1, 1])
    np.testing.assert_allclose(precision_at(truth, scores, np.array([0.3, 0.5, 1])), [1, 2 / 3, 3 / 4])
    assert np.isnan(roc_at(np.ones(3, bool), np.arange(3.0))).all()
    assert np.isnan(precision_at(np.zeros(3, bool), np.arange(3.0))).all()


def test_a_band_covers_and_shrinks_with_the_cohort() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (40, 640):
        truth = np.arange(count) % 2 == 0
        scores = rng.normal(size=count) + 1.5 * truth
        low, high = band(
            lambda r, t=truth, s=scores: roc_at(t[r], s[r]), [str(i) for i in range(count)], rng, 200
        )
        middle = roc_at(truth, scores)
        assert (np.array(low) <= middle + 1e-12).all()
        assert (np.array(high) >= middle - 1e-12).all()
        widths.append(np.mean(np.subtract(high, low)))
    assert 2.5 < widths[0] / widths[1] < 6  # sixteen times the slides: a fourth of the width
    assert band(lambda r: np.zeros(3), ["a"], rng, 0) == ([], [])
    low, _ = band(lambda r: np.array([0.5, np.nan]), ["a", "b"], rng, 20)
    assert low[0] == 0.5
    assert np.isnan(low[1])


def test_froc_at_is_the_scores_own_interpolation() -> None:
    matches = [Matches((0.9, 0.3), (0.8, 0.0), 2), Matches((0.5,), (), 0), Matches((), (0.4, 0.7), 2)]
    curve = froc_curve(matches)
    places = froc_at(matches, "official", np.array([0.25, 0.5, 1, 2, 4, 8]))
    np.testing.assert_array_equal(places, curve.at)
    assert np.isnan(froc_at([Matches((0.5,), (), 0)], "official")).all()
    assert len(froc_at(matches, "official")) == len(FALSE_POSITIVES)


def test_calibration_by_hand_and_by_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(200)
    truth = rng.random(200) < p**2
    found = calibration(truth, p)
    assert found.brier_of_fraction == pytest.approx(brier_score_loss(truth, np.full(200, truth.mean())))
    edges = [(one.start, one.stop) for one in found.bins]
    assert edges == [(i / 5, (i + 1) / 5) for i in range(5)]
    error = 0.0
    for (low, high), one in zip(edges, found.bins, strict=True):
        inside = (p >= low) & (p < high)
        assert (one.slides, one.fraction_positive) == (inside.sum(), pytest.approx(truth[inside].mean()))
        error += inside.mean() * abs(p[inside].mean() - truth[inside].mean())
    assert found.expected_error == pytest.approx(error)
    perfect = calibration(np.array([True, False]), np.array([1.0, 0.0]))
    assert perfect.expected_error == 0
    assert [one.slides for one in perfect.bins] == [1, 1]  # a probability of 1 belongs to the last bin


@pytest.mark.parametrize(("positive", "count"), [(0, 7), (3, 9), (5, 5)])
def test_bins_have_wilsons_interval(positive: int, count: int) -> None:
    """Against Wilson's formula (1927): the values of p with (share - p)^2 = z^2 p (1 - p) / n."""
    truth = np.arange(count) < positive
    (one,) = calibration(truth, np.full(count, 0.5)).bins
    z2, share = 1.959963984540054**2, positive / count
    middle = share + z2 / (2 * count)
    half = np.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2)))
    assert (one.low, one.high) == pytest.approx(
        ((middle - half) / (1 + z2 / count), (middle + half) / (1 + z2 / count)), abs=1e-12
    )


def test_the_curves_of_a_model_hold_their_bands() -> None:
    rng = np.random.default_rng(2)
    truth = np.arange(60) % 3 == 0
    scores = np.clip(rng.normal(0.4, 0.1, 60) + 0.2 * truth, 0, 1)
    data = SlideObservations(tuple(map(str, range(60))), truth, scores, scores > 0.5)
    found = slide_curves(data, 0, "m", 100)
    assert found is not None
    assert found.auc == pytest.approx(np.trapezoid(found.tpr, found.fpr))
    middle = roc_at(truth, scores)
    assert (np.array(found.roc_band.low) <= middle + 1e-12).all()
    assert (np.array(found.roc_band.high) >= middle - 1e-12).all()
    assert found == slide_curves(data, 0, "m", 100) != slide_curves(data, 0, "other", 100)
    assert slide_curves(SlideObservations(("a",), truth[:1], scores[:1], truth[:1]), 0, "m", 10) is None
    matches = (Matches((0.9, 0.3), (0.8, 0.0), 2), Matches((0.5,), (), 0))
    froc = lesion_curve(LesionObservations(("a", "b"), matches), 0, "m", 0)
    assert froc.sensitivity == froc_curve(matches).sensitivity.tolist()
    assert froc.band.low == []


@pytest.mark.parametrize("with_lesions", [True, False])
def test_the_file_of_curves_reads_back(tmp_path: Path, with_lesions: bool) -> None:
    truth, scores = np.arange(8) % 2 == 0, np.random.default_rng(0).random(8)
    data = SlideObservations(tuple(map(str, range(8))), truth, scores, scores > 0.5)
    matches = (Matches((0.9,), (0.8,), 1), Matches((0.5,), (), 0))
    lesions = LesionObservations(("a", "b"), matches)
    found = ModelCurves(
        slide_curves(data, 0, "m", 20), lesion_curve(lesions, 0, "m", 20) if with_lesions else None
    )
    path = tmp_path / "curves.json"
    write_curves(path, found)
    assert read_curves(path) == found
    assert set(read_json(path)) == ({"slide", "froc"} if with_lesions else {"slide"})


def test_undefined_curves_read_back_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    without_lesions = lesion_curve(LesionObservations(("a",), (Matches((0.5,), (), 0),)), 0, "m", 5)
    write_curves(path, ModelCurves(None, without_lesions))
    assert read_json(path)["slide"] == {}
    found = read_curves(path)
    assert found.slide is None
    assert found.froc is not None
    assert np.isnan(found.froc.sensitivity).all()
    assert np.isnan(found.froc.band.low).all()
    path.write_text('{"slide": {"fpr": []}}')
    with pytest.raises(StoreError, match=r"is damaged .* run `wsi-mil evaluate` again"):
        read_curves(path)


INFO = SlideInfo("s", "", ((8000, 6000),), (1.0,), 0.5, 0.5, "test", None, "", "", "")
# 400 x 300 µm, 60 x 40 µm (isolated), 2,600 x 200 µm; level-0 px are half as large
BOXES = [(1000, 1000, 1800, 1600), (4000, 3000, 4120, 3080), (1000, 4000, 6200, 4400)]


@pytest.mark.parametrize("truth", ["mask", "polygons"])
def test_missed_lesions_and_false_positives(truth: str) -> None:
    lesions = [Lesion("s", "tumour", polygonal(shapely.box(*box))) for box in BOXES]
    points = [(1400, 1300, 0.9), (7000, 500, 0.8), (4060, 3040, 0.7), (3000, 4200, 0.3), (200, 5800, 0.2)]
    detections = tuple(Detection("s", x, y, p) for x, y, p in points)
    spec = EvaluationSpec(froc_truth=truth)  # type: ignore[arg-type]
    matches, found = match_slide(detections, INFO, lesions, spec)
    tiles = LabelledTiles("s", "p", np.array([True]), np.array([0.5]), np.array([True]))
    slide = HeldOutSlide("s", "p", 0, tiles, detections, matches, found, 0.5)
    rows = lesion_rows([slide])
    assert [row.counted for row in rows] == [False, True, True]
    assert [row.found for row in rows] == [False, True, False]  # 0.3 on the longest is below the threshold
    assert [row.score01 for row in rows] == [0, 0.9, 0.3]
    # length of a rectangle: 4 / sqrt(12) of its longer side, grown by 2 * 37.5 µm (corners rounded)
    for row, (x0, _, x1, _), centre in zip(
        rows, [BOXES[1], BOXES[0], BOXES[2]], ((4060, 3040), (1400, 1300), (3600, 4200)), strict=True
    ):
        grown_um = (x1 - x0) * 0.5 + 75
        slack = 0.05 if row.counted else 0.15  # the corners weigh more in a small region
        assert row.length_um == pytest.approx(4 / np.sqrt(12) * grown_um, rel=slack)
        assert (row.x0_px, row.y0_px) == pytest.approx(centre, abs=16)
    assert found_by_size(rows) == (
        SizeClass("up to 0.2 mm", 0, 0),
        SizeClass("0.2 to 2 mm", 1, 1),
        SizeClass("over 2 mm", 1, 0),
    )
    wrong = false_positive_rows([slide])
    assert [(row.x0_px, row.score01) for row in wrong] == [(7000, 0.8)]  # 0.2 is below the threshold


def test_a_finer_mask_finds_the_same_lesions() -> None:
    """Growth and limits are in µm: at half the pixel size lengths agree to a pixel, and a hit stays a hit."""
    lesions = [Lesion("s", "tumour", polygonal(shapely.box(*box))) for box in BOXES]
    points = (Detection("s", 1400, 1300, 0.9), Detection("s", 3000, 4200, 0.3))
    coarse, fine = (
        match_slide(points, INFO, lesions, EvaluationSpec(froc_mask_mpp=mpp)) for mpp in (7.776, 3.888)
    )
    assert coarse[0].n_lesions == fine[0].n_lesions == 2
    assert coarse[0].true_positives == fine[0].true_positives
    for one, other in zip(coarse[1], fine[1], strict=True):
        assert one.length_um == pytest.approx(other.length_um, abs=2 * 7.776)


def test_a_normal_slide_has_only_false_positives() -> None:
    detections = (Detection("n", 10, 10, 0.9), Detection("n", 900, 10, 0.6))
    matches, found = match_slide(detections, INFO, [], EvaluationSpec())
    assert found == ()
    assert matches.false_positive_rows == (0, 1)


def test_a_curve_without_lesions_still_counts_false_positives() -> None:
    curve = froc_curve([Matches((0.9, 0.2), (), 0, ()), Matches((0.6,), (), 0, ())], "corrected")
    assert curve.thresholds.tolist() == [0.2, 0.6, 0.9]
    assert curve.false_positives.tolist() == [1.5, 1.0, 0.5, 0.0]  # of two slides
    assert (curve.n_lesions, curve.n_slides, curve.reason) == (0, 2, "no lesion to find")
    assert np.isnan(curve.sensitivity).all()
    assert np.isnan(curve.score)
