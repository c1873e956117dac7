"""Every mode of our GeoJSON against QuPath's rules, on slides with W != H and with bounds; and the checker
itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from wsi_mil.contracts.qupath import QuPathSpec, QuPathVersion, qupath_frame
from wsi_mil.contracts.scores import Detection, SlideScores
from wsi_mil.contracts.slide import Bounds, SlideInfo
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.errors import ConfigError
from wsi_mil.geojson import geometry_of, read_features, write_features
from wsi_mil.heatmaps import contour_features, detection_features, score_raster, shown_tiles, tile_features
from wsi_mil.testing.qupath import broken_rules
from wsi_mil.tiles import plan_reading, tile_grid
from wsi_mil.tissue.files import read_tissue, tissue_features, write_tissue
from wsi_mil.tissue.segmentation import TissueSpec, mask_from_polygons

BOUNDS = Bounds(701, 303, 4003, 2504)


def slide(bounds: Bounds | None) -> tuple[SlideInfo, TileTable, SlideScores]:
    info = SlideInfo("a/größe", "", ((5231, 3377),), (1.0,), 0.37, 0.41, "test", bounds, "v", "r", "1")
    spec = TileSpec(mpp=1.0, size_px=61)
    coords = tile_grid(info, spec)
    ones = np.ones(len(coords), np.float32)
    table = TileTable(
        info.slide_id,
        spec,
        plan_reading(info, spec),
        coords,
        ones,
        (info.width_px, info.height_px),
        (0.37, 0.41),
    )
    values = np.random.default_rng(3).random(len(coords)).astype(np.float32)
    values[::7] = np.nan
    return (
        info,
        table,
        SlideScores(info.slide_id, 0.9, (0.1, 0.9), values, "probability", coords, "t", "f", "m"),
    )


TISSUE = shapely.MultiPolygon(
    [
        shapely.box(800.123, 400.567, 3000.5, 2000).difference(shapely.box(1000, 500, 1500, 900)),
        shapely.box(0, 0, 9, 9),
    ]
)


@pytest.mark.parametrize("bounds", [None, BOUNDS])
@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("version", ["0.4", "0.3"])
@pytest.mark.parametrize("objects", ["tiles", "contours", "detections", "tissue", "nothing"])
def test_every_mode_keeps_every_rule(
    bounds: Bounds | None, mode: Any, version: QuPathVersion, objects: str, tmp_path: Path
) -> None:
    info, table, scores = slide(bounds)
    frame = qupath_frame(info, mode)
    raster = score_raster(table, scores.tile_scores01())
    points = [Detection("a/größe", 1000.126, 900.5, 0.7), Detection("a/größe", 5000.0, 3300.0, 0.6)]
    features = {
        "tiles": lambda: tile_features(scores, table, frame, 0.5, "m"),
        "contours": lambda: [
            f for t in (0.3, 0.9) for f in contour_features(raster, info, frame, t, "m", kind=scores.kind)
        ],
        "detections": lambda: detection_features(points, frame, "m", kind=scores.kind),
        "tissue": lambda: tissue_features(TISSUE, info, frame),
        "nothing": list,
    }[objects]()
    path = tmp_path / ("x.geojson" if version == "0.3" else "x.geojson.gz")
    count = write_features(path, features, {**frame.header(), "slide_size_px": [5231, 3377]}, version)
    assert broken_rules(path, frame.size_px, version) == []
    cropped = bounds is not None and mode == "auto"
    assert frame.offset_px == ((701, 303) if cropped else (0, 0))
    assert (count > 0) == (objects != "nothing")
    if objects == "detections":
        assert count == (1 if cropped else 2)


def test_the_far_corner_is_where_it_was_read() -> None:
    info, table, scores = slide(BOUNDS)
    frame = qupath_frame(info)
    kept, outside = shown_tiles(scores, table, frame)
    width, height = round(table.plan.tile_width0_px), round(table.plan.tile_height0_px)
    finite = np.isfinite(scores.tile_scores)
    in_frame = (
        (table.coords[:, 0] < 701 + 4003)
        & (table.coords[:, 1] < 303 + 2504)
        & (table.coords[:, 0] + width > 701)
        & (table.coords[:, 1] + height > 303)
    )
    np.testing.assert_array_equal(kept, finite & in_frame)
    assert outside == int((finite & ~in_frame).sum()) > 0
    last = list(tile_features(scores, table, frame, 0.5, "m"))[-1]
    x0, y0 = table.coords[kept][-1]
    shown = geometry_of(last, frame.offset_px)
    assert shown is not None
    assert shown.bounds == (x0, y0, min(x0 + width, 701 + 4003), min(y0 + height, 303 + 2504))


def test_only_so_many_tiles_the_most_probable() -> None:
    info, table, scores = slide(None)
    kept, _ = shown_tiles(scores, table, qupath_frame(info), at_least=0.2, top=50)
    values = scores.tile_scores
    expected = np.sort(values[np.isfinite(values)])[-50:]
    np.testing.assert_array_equal(np.sort(values[kept]), expected)
    above, _ = shown_tiles(scores, table, qupath_frame(info), at_least=0.9)
    np.testing.assert_array_equal(above, np.nan_to_num(values) >= 0.9)


def test_bounds_that_are_demanded_must_be_there() -> None:
    info, _, _ = slide(None)
    with pytest.raises(ConfigError, match=r"größe.*auto or off"):
        qupath_frame(info, "on")
    assert qupath_frame(slide(BOUNDS)[0], "on").offset_px == (701, 303)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("version", ["0.4", "0.3"])
def test_tissue_comes_back_from_an_export_of_qupath(
    mode: Any, version: QuPathVersion, tmp_path: Path
) -> None:
    """QuPath drops our member `wsi_mil`: the frame of the run's settings is what is left (Q53)."""
    info, _, _ = slide(BOUNDS)
    qupath, spec, path = QuPathSpec(version=version, bounds=mode), TissueSpec(mpp=4.0), tmp_path / "t.geojson"
    tissue = mask_from_polygons(TISSUE, info, 4.0, "found")
    write_tissue(path, tissue, info, spec, qupath)
    inside = (
        shapely.box(701, 303, 701 + 4003, 303 + 2504) if mode == "auto" else shapely.box(0, 0, 5231, 3377)
    )
    ours = read_tissue(path, info, spec, qupath)
    assert ours is not None
    assert ours.source == "found"
    value = json.loads(path.read_text())
    del value["wsi_mil"]
    path.write_text(json.dumps(value))
    edited = read_tissue(path, info, spec, qupath)
    assert edited is not None
    assert edited.source == "user"
    for found in (ours, edited):
        expected = shapely.intersection(TISSUE, inside)
        assert shapely.hausdorff_distance(found.polygons, expected) < 0.01


def test_our_outline_is_made_again_when_the_frame_changes(tmp_path: Path) -> None:
    info, _, _ = slide(BOUNDS)
    path, spec = tmp_path / "t.geojson", TissueSpec()
    write_tissue(path, mask_from_polygons(TISSUE, info, 4.0, "found"), info, spec, QuPathSpec())
    assert read_tissue(path, info, spec, QuPathSpec(bounds="off")) is None
    assert read_tissue(path, info, spec, QuPathSpec()) is not None


GOOD = {
    "type": "Feature",
    "id": "6f1d3c0e-7a52-5c1b-9f37-2b8f0d3a9c11",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 3], [0, 0]]]},
    "properties": {
        "objectType": "tile",
        "classification": {"name": "Tumor", "color": [200, 0, 0]},
        "measurements": {"p": 0.5},
    },
}
BOW_TIE = [[[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]]


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("Q2", {"type": "feature"}),
        ("Q7", {"properties": None}),
        ("Q9", {"id": "patch_0"}),
        ("Q13", {"properties": {}, "objectType": "tile"}),
        ("Q15", {"properties": {"objectType": "tile", "type": "x"}}),
        ("Q8", {"properties": {"objectType": "tile", "name": None}}),
        ("Q17", {"properties": {"objectType": "tile", "measurements": [{"name": "p", "value": 1}]}}),
        ("Q18", {"properties": {"objectType": "tile", "measurements": {"p": "0.5"}}}),
        ("Q21", {"properties": {"objectType": "tile", "classification": {"name": "Tumor"}}}),
        (
            "Q23",
            {"properties": {"objectType": "tile", "classification": {"name": "A: B", "color": [1, 2, 3]}}},
        ),
        (
            "Q24",
            {"properties": {"objectType": "tile", "classification": {"name": "A", "color": [254.7, 2, 3]}}},
        ),
        ("Q28", {"geometry": {"type": "GeometryCollection", "geometries": []}}),
        ("Q29", {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 3], [1, 1]]]}}),
        ("Q30", {"geometry": {"type": "Polygon", "coordinates": BOW_TIE}}),
        ("Q30", {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [4.001, 0], [4, 3], [0, 0]]]}}),
        ("Q40", {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [44, 0], [4, 3], [0, 0]]]}}),
    ],
)
def test_the_checker_sees_each_broken_rule(rule: str, change: dict[str, Any], tmp_path: Path) -> None:
    header = {"bounds_offset_px": [0, 0], "slide_size_px": [30, 20]}
    path = tmp_path / "x.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "wsi_mil": header, "features": [GOOD]}))
    assert broken_rules(path, (30, 20)) == []
    path.write_text(json.dumps({"type": "FeatureCollection", "wsi_mil": header, "features": [GOOD | change]}))
    assert any(rule in problem for problem in broken_rules(path, (30, 20)))


def test_the_checker_sees_broken_files(tmp_path: Path) -> None:
    header = {"bounds_offset_px": [0, 0], "slide_size_px": [30, 20]}
    path = tmp_path / "x.geojson"
    for rule, text in {
        "Q1": json.dumps([GOOD]).join(['{"features":', "}"]),
        "Q6": '{"type":"FeatureCollection","features":[],"a":NaN}',
        "Q19": '{"type":"FeatureCollection","features":[],"a":1,"a":2}',
        "Q5": '{"type":"FeatureCollection","features":[],"a":"ö"}',
        "Q9": json.dumps({"type": "FeatureCollection", "features": [GOOD, GOOD], "wsi_mil": header}),
        "Q39": json.dumps({"type": "FeatureCollection", "features": [GOOD]}),
        "Q42": json.dumps({"type": "FeatureCollection", "features": [GOOD], "wsi_mil": header}),
    }.items():
        path.write_text(text, encoding="utf-8")
        version: QuPathVersion = "0.3" if rule == "Q42" else "0.4"
        assert any(rule in problem for problem in broken_rules(path, (30, 20), version)), rule


def test_the_old_form_by_its_own_rules(tmp_path: Path) -> None:
    info, table, scores = slide(None)
    frame, path = qupath_frame(info), tmp_path / "x.geojson"
    write_features(path, tile_features(scores, table, frame, 0.5, "m"), frame.header(), "0.3")
    (first, *_), _ = read_features(path)
    properties = first["properties"]
    assert properties["object_type"] == "tile"  # Q42
    assert "objectType" not in properties
    assert [entry["name"] for entry in properties["measurements"]] == ["score", "prob_tumor"]  # Q43
    assert {"name": "Tumor", "colorRGB": -3670016} in (  # Q44: 200, 0, 0
        item["properties"]["classification"] for item in read_features(path)[0]
    )
