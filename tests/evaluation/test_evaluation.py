"""Metrics against scikit-learn and by hand; annotations against exact areas; intervals that cover."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely import MultiPolygon

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.slide import Bounds, SlideInfo
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.errors import DataError
from wsi_mil.evaluation import (
    bootstrap_interval,
    evaluation_mask,
    match_detections,
    read_annotations,
    slide_metrics,
    tile_overlap,
)
from wsi_mil.evaluation.intervals import spread
from wsi_mil.evaluation.metrics.f1 import f1
from wsi_mil.evaluation.observations import LabelledTiles
from wsi_mil.evaluation.patch_level import patch_metrics, patch_result
from wsi_mil.evaluation.slide_level import confusion
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.tiles import plan_reading, tile_grid

INFO = SlideInfo("s", "", ((2000, 1500),), (1.0,), 0.5, 0.5, "test", None, "v", "r", "1")


def test_areas_of_asap_files_equal_the_reference(reference_folder: Path) -> None:
    folder = reference_folder / "froc" / "asap_xml"
    if not folder.is_dir():
        pytest.skip("no asap_xml")
    for name, expected in json.loads((folder / "expected.json").read_text())["files"].items():
        lesions = read_annotations(folder / f"{name}.xml", name)
        area = sum(lesion.geometry.area for lesion in lesions)
        assert area == pytest.approx(expected["area_px2"], rel=1e-9), name


def test_slide_metrics_by_hand() -> None:
    truth, p = np.array([0, 0, 1, 1, 1, 0], bool), np.array([0.1, 0.6, 0.7, 0.4, 0.9, 0.4])
    found = slide_metrics(truth, p, p >= 0.5, list("abcdef"), draws=50)
    assert found["auc"].value == pytest.approx((3 + 1.5 + 3) / 9)  # pairs won by 0.7, 0.4 (one tie) and 0.9
    counts = confusion(truth, p >= 0.5)
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (2, 1, 1, 2)
    assert found["accuracy"].value == pytest.approx(4 / 6)
    assert found["balanced_accuracy"].value == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found["f1"].value == pytest.approx(2 / 3)
    assert found["brier"].value == pytest.approx(((p - truth) ** 2).mean())
    for name in ("auc", "accuracy", "balanced_accuracy", "f1", "average_precision", "brier"):
        interval = found[name].interval
        assert interval is not None
        assert interval.low <= found[name].value <= interval.high
        assert found[name].n == 6


def test_undefined_is_nan_with_a_reason() -> None:
    found = slide_metrics(np.ones(2, bool), np.array([0.2, 0.9]), np.array([False, True]), draws=10)
    assert math.isnan(found["auc"].value)
    assert found["auc"].reason == "undefined: 2 positive of 2 slides"
    assert found["accuracy"].value == 0.5
    assert math.isnan(f1(np.array([False]), np.array([False])))


def test_intervals_follow_the_seed_and_cover() -> None:
    """95 % intervals of a mean cover the truth about 95 % of the time (here at least 85 % of 60 cohorts)."""
    hits = 0
    for seed in range(60):
        values = np.random.default_rng(seed).normal(1.0, 1.0, 40)
        interval = bootstrap_interval(
            lambda rows, v=values: float(v[rows].mean()),
            [str(i) for i in range(40)],
            np.random.default_rng(0),
            200,  # type: ignore[misc]
        )
        hits += interval.low <= 1.0 <= interval.high
    assert hits >= 51
    assert interval == bootstrap_interval(
        lambda rows: float(values[rows].mean()), [str(i) for i in range(40)], np.random.default_rng(0), 200
    )


def test_no_draws_give_no_interval(rng: np.random.Generator) -> None:
    scores = np.array([0.2, 0.9])
    found = slide_metrics(np.array([False, True]), scores, scores > 0.5, draws=0)
    assert found["auc"].value == 1.0
    assert found["auc"].interval is None
    assert math.isnan(bootstrap_interval(lambda rows: 1.0, ["a", "b"], rng, 0).low)


def test_an_interval_that_few_draws_support_is_not_given(rng: np.random.Generator) -> None:
    found = bootstrap_interval(lambda rows: 1.0 if 0 in rows else math.nan, list("abcdefghij"), rng, 100)
    assert found.defined
    assert (
        50 < found.draws < 80
    )  # a slide of ten is drawn at least once with probability 1 - 0.9 ** 10 = 0.65
    rare = bootstrap_interval(
        lambda rows: 1.0 if (rows == 0).sum() > 1 else math.nan, list("abcdef"), rng, 100
    )
    assert 0 < rare.draws < 50
    assert not rare.defined


def test_patients_are_drawn_whole() -> None:
    """Forty copies of one patient's slide are one observation: the interval must not shrink."""
    values = np.array([0.0, 1.0, 0.0, 1.0])
    many = np.repeat(values, 40)
    groups = np.repeat(list("abcd"), 40).tolist()
    wide = bootstrap_interval(lambda rows: float(many[rows].mean()), groups, np.random.default_rng(0), 400)
    assert wide.high - wide.low > 0.7


def table(size: int = 100) -> TileTable:
    spec = TileSpec(mpp=0.5, size_px=size)
    coords = tile_grid(INFO, spec)
    return TileTable(
        "s",
        spec,
        plan_reading(INFO, spec),
        coords,
        np.ones(len(coords), np.float32),
        (2000, 1500),
        (0.5, 0.5),
    )


def test_overlap_of_tiles_is_exact() -> None:
    hole = shapely.box(150, 120, 950, 480).difference(shapely.box(300, 200, 400, 250))
    lesions = [
        Lesion("s", "t", MultiPolygon([hole])),
        Lesion("s", "t", MultiPolygon([shapely.box(1500, 0, 1600, 30)])),
    ]
    found = tile_overlap(table(), lesions).reshape(15, 20)
    assert found[1, 1] == pytest.approx(0.5 * 0.8)
    assert found[2, 5] == 1.0
    assert found[2, 3] == pytest.approx(0.5)
    assert found[0, 15] == pytest.approx(0.3)
    assert found.sum() * 100 * 100 == pytest.approx(hole.area + 3000)
    assert not tile_overlap(table(), []).any()


def test_patch_metrics_equal_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    slides = [
        LabelledTiles(str(i), str(i), rng.random(50) < 0.2, s := rng.random(50), s > 0.6) for i in range(4)
    ]
    slides.append(
        LabelledTiles("none", "none", np.zeros(9, bool), np.append(rng.random(8), np.nan), np.ones(9, bool))
    )
    truth = np.concatenate([s.truth for s in slides])[:-1]
    scores = np.concatenate([s.scores for s in slides])[:-1]
    result = patch_result(slides, [0] * 5, ["missing"], EvaluationSpec(bootstrap=20), model="m")
    found, facts = result.metrics, result.facts
    assert facts is not None
    assert found["auc"].value == pytest.approx(roc_auc_score(truth, scores))
    assert found["auprc"].value == pytest.approx(average_precision_score(truth, scores))
    assert (facts.n_tiles, facts.n_positive) == (208, int(truth.sum()))
    called = np.concatenate([s.called for s in slides])[:-1]
    assert found["f1"].value == pytest.approx(f1_score(truth, called))
    assert found["f1"].n == 208
    within = [roc_auc_score(s.truth, s.scores) for s in slides[:4]]
    assert (facts.per_slide["auc"].mean, facts.per_slide["auc"].n_slides) == (
        pytest.approx(np.mean(within)),
        4,
    )
    dice = [2 * (s.truth & s.called).sum() / (s.truth.sum() + s.called.sum()) for s in slides[:4]]
    assert facts.per_slide["dice"].mean == pytest.approx(np.mean(dice))
    assert set(facts.per_slide) == {"auc", "auprc", "dice"}
    assert facts.slides_without_annotation == ("missing",)
    empty = patch_metrics(slides[-1:])
    assert math.isnan(empty["auc"].value)
    assert empty["auc"].reason == empty["f1"].reason == "undefined: 0 of 8 tiles on lesions"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<ASAP_Annotations>", "not readable XML"),
        ("", "not readable XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><ASAP_Annotations>&a;</ASAP_Annotations>', "it has a document type"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><A>&a;</A>', "it has a document type"),
        (
            '<ASAP_Annotations><Annotation PartOfGroup="Tumor"><Coordinate X="1"/></Annotation>'
            "</ASAP_Annotations>",
            "Y of point 1: .* is no finite number",
        ),
        (
            '<ASAP_Annotations><Annotation PartOfGroup="Tumor"><Coordinate X="1" Y="a"/></Annotation>'
            "</ASAP_Annotations>",
            "Y of point 1: .* is no finite number",
        ),
    ],
)
def test_hostile_xml_is_refused_by_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.xml").write_text(text)
    with pytest.raises(DataError, match=rf"bad\.xml.*{message}"):
        read_annotations(tmp_path / "bad.xml", "s")


def test_lesions_outside_the_slide_show_both_extents(tmp_path: Path) -> None:
    from wsi_mil.synthetic.writing import write_asap

    write_asap(tmp_path / "a.xml", [("x", shapely.box(5000, 5000, 6000, 6000))])
    with pytest.raises(DataError, match=r"\[5000, 5000, 6000, 6000\].*2000 x 1500"):
        read_annotations(tmp_path / "a.xml", "s", INFO)


def test_geojson_annotations_leave_qupaths_frame(tmp_path: Path) -> None:
    info = SlideInfo(
        "s", "", ((2000, 1500),), (1.0,), 0.5, 0.5, "t", Bounds(100, 50, 1500, 1200), "v", "r", "1"
    )
    geometry = json.loads(shapely.to_geojson(shapely.box(0, 0, 200, 100)))
    items = [
        {"type": "Feature", "geometry": geometry, "properties": {"classification": "Tumor"}},
        {"type": "Feature", "geometry": geometry, "properties": {"classification": "Stroma"}},
    ]
    (tmp_path / "s.geojson").write_text(json.dumps(items))
    lesions = read_annotations(tmp_path / "s.geojson", "s", info)
    assert [lesion.geometry.bounds for lesion in lesions] == [(100, 50, 300, 150)]


def test_froc_odd_masks_and_points() -> None:
    with pytest.raises(DataError, match="is not finite"):
        match_detections([(math.nan, 1.0, 1.0)], None, "x")
    mask = evaluation_mask(np.pad(np.ones((40, 60), bool), 10))
    assert mask.isolated == ()
    with pytest.raises(
        DataError, match=r"slide 'x': a detection at row 60, column 3 lies outside its mask of 60 x 80"
    ):
        match_detections([(0.5, 60.0, 3.0)], mask, "x")
    with pytest.raises(DataError, match="row -1"):
        match_detections([(0.5, -0.5, 3.0)], mask, "x")


def test_a_detection_of_probability_zero_is_no_hit() -> None:
    mask = evaluation_mask(np.pad(np.ones((40, 60), bool), 10))
    assert match_detections([(0.0, 30.0, 40.0)], mask).true_positives == (0.0,)
    assert match_detections([(0.3, 30.0, 40.0), (0.9, 31.0, 41.0)], mask).true_positives == (0.9,)


def test_spread_is_students_t() -> None:
    """Against scipy's own interval; one value has no deviation, undefined ones are left out."""
    from scipy import stats

    values = [0.81, 0.9, 0.77, 0.95, 0.88]
    found = spread([*values, math.nan])
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.mean, found.std, found.count) == pytest.approx((np.mean(values), np.std(values, ddof=1), 5))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert math.isnan(spread([0.5]).std)
    assert math.isnan(spread([]).mean)
