"""The suites of the records of `wsi_mil.heatmaps`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsi_mil.heatmaps.raster import ScoreRaster
from wsi_mil.heatmaps.refined import RefinedHeader, RefinedMaps
from wsi_mil.testing.records import RecordSuite


class TestScoreRaster(RecordSuite[ScoreRaster]):
    def make(self) -> ScoreRaster:
        return ScoreRaster(np.array([[0.5, np.nan]], np.float32), 16.0, 32.0)

    def changes(self) -> Mapping[str, Any]:
        return {"values": np.array([[0.5, 0.5]], np.float32), "scale_x_px": 32.0, "scale_y_px": 16.0}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "values": [np.zeros((1, 2)), np.zeros(2, np.float32), np.full((1, 2), 1.5, np.float32)],
            **{field: [0.0, -1.0, math.nan] for field in ("scale_x_px", "scale_y_px")},
        }


DIGESTS = ("tiles_digest", "model_digest", "refiner_digest", "features_digest")


class TestRefinedHeader(RecordSuite[RefinedHeader]):
    unchecked = frozenset(DIGESTS)

    def make(self) -> RefinedHeader:
        return RefinedHeader("a", "t", "m", "r")

    def changes(self) -> Mapping[str, Any]:
        return {"slide_id": "b", **dict.fromkeys(DIGESTS, "x")}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"slide_id": [""]}


class TestRefinedMaps(RecordSuite[RefinedMaps]):
    unchecked = frozenset(DIGESTS)

    def make(self) -> RefinedMaps:
        maps = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
        return RefinedMaps("a", np.array([3, 5], np.int32), maps, "t", "m", "r")

    def changes(self) -> Mapping[str, Any]:
        return {
            "slide_id": "b",
            "rows": np.array([3, 6], np.int32),
            "maps": np.zeros((2, 2, 2), np.uint8),
            **dict.fromkeys(DIGESTS, "x"),
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "slide_id": [""],
            "rows": [np.array([3, 5]), np.zeros((2, 1), np.int32)],
            "maps": [np.zeros((1, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 2))],
        }
