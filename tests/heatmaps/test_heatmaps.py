"""Heatmaps lie where the tiles lie, to the far corner, in every file."""

import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
import shapely
import tifffile

from wsi_mil.contracts.qupath import qupath_frame
from wsi_mil.contracts.score_kinds import SCORE_KINDS
from wsi_mil.contracts.scores import Detection, SlideScores
from wsi_mil.contracts.slide import Bounds, SlideInfo
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.geojson import geometry_of, read_features, write_features
from wsi_mil.heatmaps import (
    contour_features,
    detection_features,
    draw_overlay,
    score_raster,
    tile_features,
    write_score_pyramid,
)
from wsi_mil.heatmaps.overlay import blend
from wsi_mil.tiles import plan_reading, tile_grid

PROBABILITY = SCORE_KINDS["probability"]
INFO = SlideInfo("s/1", "", ((5230, 3370),), (1.0,), 0.37, 0.41, "test", None, "v", "r", "1")


def table(info: SlideInfo = INFO, size: int = 64, stride: int | None = None) -> TileTable:
    spec = TileSpec(mpp=1.0, size_px=size, stride_px=stride)
    coords = tile_grid(info, spec)
    return TileTable(
        info.slide_id,
        spec,
        plan_reading(info, spec),
        coords,
        np.ones(len(coords), np.float32),
        (info.width_px, info.height_px),
        (info.mpp_x, info.mpp_y),
    )


def scores(tiles: TileTable, values: np.ndarray, kind: str = "probability") -> SlideScores:
    return SlideScores("s/1", 0.9, (0.1, 0.9), values.astype(np.float32), kind, tiles.coords, "t", "f", "m")


def test_every_tile_is_where_it_was_read() -> None:
    tiles = table()
    values = np.random.default_rng(0).random(len(tiles)).astype(np.float32)
    raster = score_raster(tiles, values)
    centres = tiles.coords + np.array([tiles.plan.tile_width0_px, tiles.plan.tile_height0_px]) / 2
    rows = (centres[:, 1] / raster.scale_y_px).astype(int)
    columns = (centres[:, 0] / raster.scale_x_px).astype(int)
    np.testing.assert_allclose(raster.values[rows, columns], values, atol=1e-6)


def test_overlapping_tiles_are_averaged_and_gaps_stay_empty() -> None:
    tiles = table(stride=32)
    raster = score_raster(tiles, np.ones(len(tiles), np.float32))
    covered = np.isfinite(raster.values)
    np.testing.assert_allclose(raster.values[covered], 1.0)
    values = np.full(len(tiles), np.nan, np.float32)
    values[0], values[1] = 0.2, 0.6
    pair = score_raster(tiles, values, pixels_per_tile=2)
    np.testing.assert_allclose(pair.values[0, :6], [0.2, 0.2, 0.4, 0.4, 0.6, 0.6], atol=1e-6)
    assert np.isnan(pair.values[0, 6:]).all()


def test_overlay_marks_the_far_corner() -> None:
    """One hot tile, the last: the picture changes there and nowhere else (slideflow issue 440: drift)."""
    tiles = table()
    values = np.full(len(tiles), np.nan, np.float32)
    values[-1] = 1.0
    thumbnail = np.full((337, 523, 3), 200, np.uint8)
    changed = (blend(thumbnail, score_raster(tiles, values), INFO) != thumbnail).any(axis=2)
    y, x = np.nonzero(changed)
    x0, y0 = tiles.coords[-1] / 10
    assert x.min() == pytest.approx(x0, abs=1.5)
    assert y.min() == pytest.approx(y0, abs=1.5)
    assert x.max() == pytest.approx(x0 + tiles.plan.tile_width0_px / 10, abs=1.5)
    assert y.max() == pytest.approx(y0 + tiles.plan.tile_height0_px / 10, abs=1.5)


def test_overlay_is_a_picture_with_bars() -> None:
    tiles = table()
    values = np.linspace(0, 1, len(tiles)).astype(np.float32)
    thumbnail = np.full((337, 523, 3), 235, np.uint8)
    png = draw_overlay(
        thumbnail,
        score_raster(tiles, values),
        INFO,
        title="t",
        outlines=[shapely.MultiPolygon([shapely.box(0, 0, 900, 900)])],
    )
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[1] > 523
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100
    assert png == draw_overlay(
        thumbnail,
        score_raster(tiles, values),
        INFO,
        title="t",
        outlines=[shapely.MultiPolygon([shapely.box(0, 0, 900, 900)])],
    )


def test_pyramid_has_its_physical_size_and_its_far_corner(tmp_path: Path) -> None:
    tiles = table(size=16)
    values = np.random.default_rng(1).random(len(tiles)).astype(np.float32)
    raster = score_raster(tiles, values)
    path = tmp_path / "h.ome.tif"
    write_score_pyramid(path, raster, INFO, "s/1")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert len(tiff.series[0].levels) >= 2
        pixels = tiff.series[0].asarray()
        ome = tiff.ome_metadata or ""
    assert f'PhysicalSizeX="{raster.scale_x_px * INFO.mpp_x}"' in ome
    assert f'PhysicalSizeY="{raster.scale_y_px * INFO.mpp_y}"' in ome
    x0, y0 = tiles.coords[-1]
    row, column = int((y0 + 5) / raster.scale_y_px) + 1, int((x0 + 5) / raster.scale_x_px) + 1
    assert (pixels[row, column] - 1) / 254 == pytest.approx(values[-1], abs=0.003)
    assert pixels[-1, -1] == 0 or np.isfinite(raster.values[-1, -1])
    with openslide.OpenSlide(str(path)) as slide:
        found = np.asarray(slide.read_region((column, row), 0, (1, 1)))[0, 0]
        assert found[0] == pixels[row, column]
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(
            raster.scale_x_px * INFO.mpp_x, rel=1e-4
        )
    again = tmp_path / "again.ome.tif"
    write_score_pyramid(again, raster, INFO, "s/1")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("bounds", [None, Bounds(700, 300, 4000, 2500)])
def test_geojson_lies_on_the_slide_as_qupath_shows_it(tmp_path: Path, bounds: Bounds | None) -> None:
    info = SlideInfo("s/1", "", ((5230, 3370),), (1.0,), 0.37, 0.41, "test", bounds, "v", "r", "1")
    tiles = table(info)
    values = (tiles.coords[:, 0] > 2500).astype(float)
    found = scores(tiles, values)
    raster = score_raster(tiles, found.tile_scores01())
    features = [
        *contour_features(raster, info, qupath_frame(info), 0.5, "m", kind=PROBABILITY),
        *tile_features(found, tiles, qupath_frame(info), 0.5, "m"),
    ]
    write_features(tmp_path / "x.geojson.gz", features, {})
    ids = [item["id"] for item in features]
    assert len(set(ids)) == len(ids)
    frame = shapely.box(0, 0, bounds.width_px, bounds.height_px) if bounds else shapely.box(0, 0, 5230, 3370)
    offset = (bounds.x0_px, bounds.y0_px) if bounds else (0, 0)
    kinds = [item["properties"]["objectType"] for item in features]
    assert kinds.count("annotation") == 1
    contour = geometry_of(features[0], offset)
    assert contour is not None
    for item in features:
        shown = geometry_of(item)
        assert shown is not None
        assert frame.buffer(0.01).contains(shown)  # Q40
    hot = [
        geometry_of(i, offset) for i in features[1:] if i["properties"]["classification"]["name"] == "Tumor"
    ]
    together = shapely.union_all(hot)
    # the contour runs around the hot tiles to half a raster pixel
    assert contour.symmetric_difference(together).area < 0.05 * together.area
    inside = [
        c
        for c, v in zip(tiles.coords, values, strict=True)
        if v and (bounds is None or (700 <= c[0] < 4480 and 300 <= c[1] < 2640))
    ]
    assert len(hot) >= len(inside)
    measures = features[1]["properties"]["measurements"]
    assert set(measures) == {"score", "prob_tumor"}


def test_ids_are_stable_and_differ_between_models() -> None:
    tiles = table()
    found = scores(tiles, np.ones(len(tiles)))
    one = [item["id"] for item in tile_features(found, tiles, qupath_frame(INFO), 0.5, "a")]
    assert one == [item["id"] for item in tile_features(found, tiles, qupath_frame(INFO), 0.5, "a")]
    assert not set(one) & {item["id"] for item in tile_features(found, tiles, qupath_frame(INFO), 0.5, "b")}


def test_attention_is_not_called_a_probability(tmp_path: Path) -> None:
    tiles = table()
    values = np.full(len(tiles), np.nan)
    values[3], values[4] = 0.01, 0.02
    found = scores(tiles, values, "attention")
    features = list(tile_features(found, tiles, qupath_frame(INFO), 0.5, "m"))
    assert [f["properties"]["measurements"] for f in features] == [
        {"score": 0.01, "score01": pytest.approx(0.5 * found.probability)},
        {"score": 0.02, "score01": pytest.approx(found.probability)},
    ]
    write_features(tmp_path / "x.geojson.gz", features, {})
    assert len(read_features(tmp_path / "x.geojson.gz")[0]) == 2


def test_nothing_suspicious_gives_a_valid_file(tmp_path: Path) -> None:
    tiles = table()
    found = scores(tiles, np.zeros(len(tiles)))
    raster = score_raster(tiles, found.tile_scores01())
    write_features(
        tmp_path / "x.geojson.gz",
        contour_features(raster, INFO, qupath_frame(INFO), 0.5, "m", kind=PROBABILITY),
        {},
    )
    assert json.loads(gzip.decompress((tmp_path / "x.geojson.gz").read_bytes()))["features"] == []


def test_ranks_are_shares_of_the_slides_tiles() -> None:
    tiles = table()
    values = np.random.default_rng(5).random(len(tiles))
    values[3] = np.nan
    values[7] = values[9]
    ranks = scores(tiles, values, "attention").tile_ranks()
    finite = values[np.isfinite(values)].astype(np.float32)
    for row in (0, 5, 11):
        assert ranks[row] == pytest.approx((finite <= np.float32(values[row])).mean())
    assert np.isnan(ranks[3])
    assert ranks[7] == ranks[9]
    assert np.nanmax(ranks) == 1.0


def test_small_regions_are_left_out_of_contours() -> None:
    tiles = table()
    values = np.zeros(len(tiles), np.float32)
    values[0] = 0.9  # one tile of 64 µm
    columns = len(np.unique(tiles.coords[:, 0]))
    values[[columns * 5 + 5, columns * 5 + 6]] = 0.9  # two
    raster = score_raster(tiles, values)

    def areas(least: float) -> list[int]:
        found = contour_features(raster, INFO, qupath_frame(INFO), 0.5, "m", least, kind=PROBABILITY)
        return sorted(round(one["properties"]["measurements"]["area_mm2"] * 1e6, -2) for one in found)

    assert [round(area / 4096) for area in areas(0)] == [1, 2]
    assert [round(area / 4096) for area in areas(5000)] == [2]
    assert areas(10_000) == []


@pytest.mark.parametrize("kind", list(SCORE_KINDS))
def test_only_a_probability_is_called_one_in_qupath(kind: str) -> None:
    tiles = table()
    found = scores(tiles, np.random.default_rng(2).random(len(tiles)), kind)
    raster, frame = score_raster(tiles, found.tile_scores01()), qupath_frame(INFO)
    features = [
        *contour_features(raster, INFO, frame, 0.5, "m", kind=found.kind),
        *tile_features(found, tiles, frame, 0.5, "m"),
        *detection_features([Detection("s/1", 100, 100, 0.75)], frame, "m", kind=found.kind),
    ]
    names = {name for item in features for name in item["properties"]["measurements"]}
    expected = {found.kind.column, found.kind.measurement, found.kind.largest, "score", "area_mm2", "rank"}
    assert names == expected
    assert any("prob" in name for name in names) == found.kind.is_probability
    assert features[-1]["properties"]["measurements"][found.kind.column] == 0.75
