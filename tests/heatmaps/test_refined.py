"""Refined maps lie where their tiles lie, read back as written, and say so when they are broken."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.heatmaps.test_heatmaps import table
from wsi_mil.errors import DataError, StoreError
from wsi_mil.heatmaps import score_raster
from wsi_mil.heatmaps.refined import (
    RefinedHeader,
    RefinedMaps,
    anchored,
    read_refined,
    read_refined_header,
    refined_raster,
    write_refined,
)


def maps_of(rows: list[int], maps: np.ndarray) -> RefinedMaps:
    return RefinedMaps("s/1", np.array(rows, np.int32), maps.astype(np.uint8), "t", "m", "r")


def test_every_map_is_where_its_tile_was_read() -> None:
    tiles = table()  # 0.37 x 0.41 µm/px: no tile is a whole number of pixels
    scores = np.full(len(tiles), 0.1, np.float32)
    rows = [0, 7, len(tiles) - 1]
    ramp = np.broadcast_to(np.arange(16) * 16, (3, 16, 16)).copy()  # grows to the right
    ramp[:, 8:] = 255 - ramp[:, 8:]  # and below to the left
    raster = refined_raster(tiles, scores, maps_of(rows, ramp), 0.5)
    base = score_raster(tiles, scores, 16)
    assert raster.values.shape == base.values.shape
    size = np.array([tiles.plan.tile_width0_px, tiles.plan.tile_height0_px])
    for row in rows:
        for place, expected in (
            ((0.9, 0.2), 14),
            ((0.1, 0.2), 1),
            ((0.9, 0.8), 255 / 16 - 14),
            ((0.1, 0.8), 255 / 16 - 1),
        ):
            x, y = tiles.coords[row] + size * place
            found = raster.values[int(y / raster.scale_y_px), int(x / raster.scale_x_px)]
            assert abs(found - expected * 16 / 255) < 0.08, (row, place)
    untouched = np.ones(base.values.shape, bool)
    for row in rows:
        left, top = np.rint(tiles.coords[row] / [raster.scale_x_px, raster.scale_y_px]).astype(int)
        untouched[top : top + 16, left : left + 16] = False
    np.testing.assert_array_equal(raster.values[untouched], base.values[untouched])


def test_overlapping_maps_are_averaged() -> None:
    tiles = table(stride=32)
    maps = np.stack([np.zeros((8, 8)), np.full((8, 8), 255)])
    raster = refined_raster(tiles, np.zeros(len(tiles), np.float32), maps_of([0, 1], maps), 0.5)
    np.testing.assert_allclose(raster.values[0, :12], [0] * 4 + [0.5] * 4 + [1] * 4, atol=1e-6)


def test_a_half_becomes_the_models_threshold() -> None:
    values = np.array([0, 0.25, 0.5, 0.75, 1], np.float32)
    np.testing.assert_allclose(anchored(values, 0.2), [0, 0.1, 0.2, 0.6, 1])
    np.testing.assert_allclose(anchored(values, 0.5), values)


def test_nothing_refined_is_the_tile_raster() -> None:
    tiles = table()
    scores = np.random.default_rng(0).random(len(tiles)).astype(np.float32)
    raster = refined_raster(tiles, scores, maps_of([], np.zeros((0, 4, 4))), 0.3)
    np.testing.assert_array_equal(raster.values, score_raster(tiles, scores, 4).values)


def test_round_trip_and_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s.npz"
    assert read_refined_header(path) is None
    maps = np.random.default_rng(1).integers(0, 256, (2, 5, 5))
    write_refined(path, maps_of([3, 9], maps))
    found = read_refined(path)
    assert (found.slide_id, found.tiles_digest, found.model_digest, found.refiner_digest) == (
        "s/1",
        "t",
        "m",
        "r",
    )
    np.testing.assert_array_equal(found.rows, [3, 9])
    np.testing.assert_array_equal(found.maps, maps)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"s\.npz is damaged: it cannot be read.*run `wsi-mil refine` again"):
        read_refined(path)
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be read"):
        read_refined_header(path)
    np.savez(
        path, header=np.frombuffer(b'{"kind": "other"}', np.uint8), rows=np.zeros(1), maps=np.zeros((1, 2, 2))
    )
    with pytest.raises(StoreError, match="no file of refined maps"):
        read_refined(path)


def test_a_file_of_an_earlier_version_has_no_digest_of_features(tmp_path: Path) -> None:
    path, rows, maps = tmp_path / "s.npz", np.array([3], np.int32), np.zeros((1, 4, 4), np.uint8)
    header = {"kind": "refined maps", "format_version": 1, "slide_id": "s", "tiles_digest": "t"}
    text = json.dumps({**header, "model_digest": "m", "refiner_digest": "r"})
    np.savez(path, header=np.frombuffer(text.encode(), np.uint8), rows=rows, maps=maps)
    assert read_refined_header(path) == RefinedHeader("s", "t", "m", "r", "")


def test_maps_and_rows_must_agree() -> None:
    with pytest.raises(DataError, match=r"maps must be \(2, S, S\) uint8, got \(1, 4, 4\) uint8"):
        maps_of([1, 2], np.zeros((1, 4, 4)))
