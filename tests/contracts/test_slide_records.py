"""One suite for each record of slides, tiles and tissue."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import shapely

from tests.contracts.values import COORDS, box
from wsi_mil.contracts.slide import Bounds, SlideInfo, SlideSource
from wsi_mil.contracts.tiles import ReadPlan, TileSpec, TileTable
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.testing.records import RecordSuite


class TestBounds(RecordSuite[Bounds]):
    def make(self) -> Bounds:
        return Bounds(10, 20, 300, 200)

    def changes(self) -> Mapping[str, Any]:
        return {"x0_px": 11, "y0_px": 21, "width_px": 301, "height_px": 201}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"x0_px": [-1], "y0_px": [-1], "width_px": [0], "height_px": [0]}


class TestSlideInfo(RecordSuite[SlideInfo]):
    unchecked = frozenset({"path", "mpp_source", "bounds", "vendor", "reader", "reader_version", "notes"})

    def make(self) -> SlideInfo:
        sizes, bounds = ((400, 300), (200, 150)), Bounds(10, 20, 300, 200)
        return SlideInfo("a", "a.svs", sizes, (1.0, 2.0), 0.25, 0.5, "tag", bounds, "v", "r", "1", ("note",))

    def changes(self) -> Mapping[str, Any]:
        return {
            "slide_id": "b",
            "path": "b.svs",
            "level_sizes_px": ((300, 400), (200, 150)),
            "level_downsamples": (1.0, 2.01),
            "mpp_x": 0.5,
            "mpp_y": 0.25,
            "mpp_source": "override",
            "bounds": None,
            "vendor": "w",
            "reader": "s",
            "reader_version": "2",
            "notes": (),
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "slide_id": [""],
            "level_sizes_px": [(), ((400, 300), (0, 150))],
            "level_downsamples": [(1.0,), (1.0, 0.0), ()],
            "mpp_x": [0.0, -1.0, math.nan],
            "mpp_y": [0.0, math.inf],
        }


class TestSlideSource(RecordSuite[SlideSource]):
    def make(self) -> SlideSource:
        return SlideSource("a", "s3://bucket/a.svs", (0.25, 0.5))

    def changes(self) -> Mapping[str, Any]:
        return {"slide_id": "b", "path": None, "mpp": 0.25}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"slide_id": [""], "path": [""], "mpp": [0.0, (0.25, -0.5), math.nan]}


class TestReadPlan(RecordSuite[ReadPlan]):
    def make(self) -> ReadPlan:
        return ReadPlan(1, 2.0, 2.5, 64, 60, 128.5, 150.25)

    def changes(self) -> Mapping[str, Any]:
        return {
            "level": 2,
            "downsample_x": 2.5,
            "downsample_y": 2.0,
            "read_width_px": 60,
            "read_height_px": 64,
            "tile_width0_px": 150.25,
            "tile_height0_px": 128.5,
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        sides = ("downsample_x", "downsample_y", "tile_width0_px", "tile_height0_px")
        return {
            "level": [-1],
            "read_width_px": [0],
            "read_height_px": [0],
            **{field: [0.0, -1.0, math.nan, math.inf] for field in sides},
        }


class TestTileTable(RecordSuite[TileTable]):
    unchecked = frozenset({"spec", "plan"})
    plan = ReadPlan(0, 1.0, 1.0, 100, 100, 100.0, 100.0)

    def make(self) -> TileTable:
        tissue = np.array([0.5, 1.0, 0.75], np.float32)
        spec = TileSpec(mpp=0.5, size_px=100)
        return TileTable("a", spec, self.plan, COORDS.copy(), tissue, (400, 300), (0.5, 0.5), "otsu")

    def changes(self) -> Mapping[str, Any]:
        return {
            "slide_id": "b",
            "spec": TileSpec(mpp=0.25, size_px=100),
            "plan": replace(self.plan, level=1),
            "coords": COORDS + 1,
            "tissue": np.ones(3, np.float32),
            "slide_size_px": (300, 400),
            "mpp_xy": (0.25, 0.5),
            "tissue_source": "user",
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        tissues = ([0.5, 1.0], [0.5, 1.0, 1.5], [0.5, 1.0, -0.5], [0.5, 1.0, np.nan])
        return {
            "slide_id": [""],
            "slide_size_px": [(0, 300)],
            "mpp_xy": [(0.5, 0.0)],
            "tissue_source": [""],
            "tissue": [*(np.array(t, np.float32) for t in tissues), np.ones(3)],
            "coords": [
                COORDS.astype(np.int64),
                COORDS[:, :1],
                COORDS[::-1].copy(),
                np.zeros((3, 2), np.int32),
                COORDS - 1,
                COORDS + 302,
            ],
        }


class TestTissueMask(RecordSuite[TissueMask]):
    unchecked = frozenset({"how"})  # any text

    def make(self) -> TissueMask:
        return TissueMask(np.array([[True, False]]), 16.0, 32.0, 8.0, box(0, 0, 16, 32), "otsu")

    def changes(self) -> Mapping[str, Any]:
        return {
            "mask": np.array([[True, True]]),
            "scale_x_px": 32.0,
            "scale_y_px": 16.0,
            "mpp": 4.0,
            "polygons": box(0, 0, 32, 16),
            "source": "user",
            "how": "drawn by hand",
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "mask": [np.array([True, False]), np.array([[1, 0]])],
            **{field: [0.0, -1.0, math.nan] for field in ("scale_x_px", "scale_y_px", "mpp")},
            "polygons": [shapely.box(0, 0, 1, 1)],
            "source": [""],
        }
