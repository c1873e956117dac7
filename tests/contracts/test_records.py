"""One suite for each record of `wsi_mil.contracts`, and a test that no record lacks its suite."""

import math
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from shapely import MultiPolygon

import wsi_mil.contracts
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.labels import LabelScheme, SlideLabel
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.metric import Interval, Metric
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.contracts.qupath import QuPathFrame
from wsi_mil.contracts.record import Record
from wsi_mil.contracts.score_kinds import SCORE_KINDS, ScoreKind
from wsi_mil.contracts.scores import Detection, SlideScoreRow, SlideScores, SlideScoresHeader
from wsi_mil.contracts.slide import Bounds, SlideInfo, SlideSource
from wsi_mil.contracts.tiles import ReadPlan, TileSpec, TileTable
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.testing.records import RecordSuite


def box(*corners: float) -> MultiPolygon:
    return MultiPolygon([shapely.box(*corners)])


BOW_TIE = MultiPolygon([shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])])
COORDS = np.array([[0, 0], [100, 0], [0, 100]], np.int32)


def bags(scale: float = 1.0) -> PackedBags:
    return PackedBags(
        features=scale * torch.arange(10.0).reshape(5, 2),
        offsets=torch.tensor([0, 2, 5]),
        labels=torch.tensor([0, 1]),
        slide_ids=("a", "b"),
        instance_labels=torch.tensor([-1, -1, 0, 1, 0]),
    )


class TestBag(RecordSuite[Bag]):
    unchecked = frozenset({"patient"})

    def make(self) -> Bag:
        return Bag("a", torch.tensor([[1.0, math.nan], [3.0, 4.0]]), 1, "p", torch.tensor([0, -1]))

    def changes(self) -> Mapping[str, Any]:
        return {
            "slide_id": "b",
            "features": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
            "label": (2.0, 1.0),
            "patient": "q",
            "instance_labels": torch.tensor([0, 1]),
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "slide_id": [""],
            "features": [torch.zeros(0, 2), torch.zeros(2), torch.zeros(2, 2, dtype=torch.int64)],
            "label": [math.nan, (1.0, math.inf), (1.0, 0.0, 0.0)],
            "instance_labels": [torch.tensor([0]), torch.tensor([0.0, 1.0])],
        }


class TestPackedBags(RecordSuite[PackedBags]):
    def make(self) -> PackedBags:
        return bags()

    def changes(self) -> Mapping[str, Any]:
        return {
            "features": torch.zeros(5, 2),
            "offsets": torch.tensor([0, 3, 5]),
            "labels": torch.tensor([1, 1]),
            "slide_ids": ("a", "c"),
            "instance_labels": None,
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "features": [torch.zeros(5), torch.zeros(5, 2, dtype=torch.int64)],
            "offsets": [torch.tensor(o) for o in ([0], [1, 2, 5], [0, 0, 5], [0, 2, 4], [0.0, 2.0, 5.0])],
            "labels": [torch.tensor([0]), torch.tensor(0)],
            "slide_ids": [("a",), ("a", "b", "c")],
            "instance_labels": [torch.zeros(4, dtype=torch.int64), torch.zeros(5)],
        }


class TestFeatureTable(RecordSuite[FeatureTable]):
    unchecked = frozenset({"encoder_digest", "tiles_digest", "digest"})

    def make(self) -> FeatureTable:
        values, readable = np.arange(6, dtype=np.float16).reshape(3, 2), np.array([True, True, False])
        return FeatureTable("a", "texture", "e", "t", 0.5, values, COORDS.copy(), readable, "d")

    def changes(self) -> Mapping[str, Any]:
        return {
            "slide_id": "b",
            "encoder": "other",
            "encoder_digest": "f",
            "tiles_digest": "u",
            "mpp": 0.25,
            "features": np.zeros((3, 2), np.float16),
            "coords": COORDS + 1,
            "readable": np.ones(3, np.bool_),
            "digest": "x",
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "slide_id": [""],
            "encoder": [""],
            "mpp": [0.0, -1.0, math.nan],
            "features": [
                np.zeros((3, 2), np.float32),
                np.zeros((2, 2), np.float16),
                np.full((3, 2), np.inf, np.float16),
            ],
            "coords": [COORDS.astype(np.int64), COORDS[:, :1]],
            "readable": [np.ones(2, np.bool_), np.ones(3)],
        }


class TestLabelScheme(RecordSuite[LabelScheme]):
    unchecked = frozenset({"decided", "negative", "positive"})

    def make(self) -> LabelScheme:
        return LabelScheme(("n", "a", "b"), ("a", "b"), ("n",), "words")

    def changes(self) -> Mapping[str, Any]:
        return {"decided": "the user"}

    def pairs(self) -> Mapping[str, tuple[LabelScheme, LabelScheme]]:
        none = LabelScheme(("n", "a"), (), (), "words")
        some = LabelScheme(("n", "a"), ("n", "a"), (), "words")
        other = LabelScheme(("n", "a"), (), ("n", "a"), "words")
        return {
            "class_names": (none, LabelScheme(("n", "b"), (), (), "words")),
            "positive": (none, some),
            "negative": (none, other),
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"class_names": [("a", "a", "b"), ("a", "b", "n")]}


SCHEME = LabelScheme(("n", "a"), ("a",), ("n",), "words")


class TestSlideLabel(RecordSuite[SlideLabel]):
    unchecked = frozenset({"patient", "centre", "split"})

    def make(self) -> SlideLabel:
        return SlideLabel("a", 1, "p", "c", "train", (0.25, 0.5), (12.5, 1.0))

    def changes(self) -> Mapping[str, Any]:
        return {
            "slide_id": "b",
            "label": None,
            "patient": "q",
            "centre": "d",
            "split": "test",
            "mpp": 0.25,
            "value": 3.5,
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "slide_id": [""],
            "label": [-1],
            "mpp": [0.0, (0.5, -1.0), math.nan],
            "value": [math.nan, (1.0, math.inf)],
        }


class TestLesion(RecordSuite[Lesion]):
    unchecked = frozenset({"label"})

    def make(self) -> Lesion:
        return Lesion("a", "tumour", box(0, 0, 4, 3))

    def changes(self) -> Mapping[str, Any]:
        return {"slide_id": "b", "label": "metastasis", "geometry": box(0, 0, 4, 4)}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"slide_id": [""], "geometry": [MultiPolygon(), BOW_TIE, shapely.box(0, 0, 1, 1)]}


class TestInterval(RecordSuite[Interval]):
    def make(self) -> Interval:
        return Interval(0.25, 0.75, "bootstrap", 0.95, 1000)

    def changes(self) -> Mapping[str, Any]:
        return {"low": 0.5, "high": 0.8, "method": "Wilson", "level": 0.9, "draws": 10}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "low": [0.8, math.nan],
            "high": [0.2, math.nan],
            "method": [""],
            "level": [0.0, 1.0],
            "draws": [-1],
        }


class TestIntervalWithoutLimits(TestInterval):
    """Both limits are NaN, which equals NaN."""

    def make(self) -> Interval:
        return Interval(math.nan, math.nan, "bootstrap", 0.95, 3)

    def changes(self) -> Mapping[str, Any]:
        return {"method": "Wilson", "level": 0.9, "draws": 10}

    def pairs(self) -> Mapping[str, tuple[Interval, Interval]]:
        known = super().make()
        return {"low": (known, replace(known, low=0.0)), "high": (known, replace(known, high=1.0))}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {**super().invalid(), "low": [0.2], "high": [0.2]}


class TestMetric(RecordSuite[Metric]):
    unchecked = frozenset({"interval"})

    def make(self) -> Metric:
        return Metric(0.5, Interval(0.25, 0.75, "bootstrap"), "", 3)

    def changes(self) -> Mapping[str, Any]:
        return {"value": 0.75, "interval": Interval(0.25, 0.8, "bootstrap"), "n": 4}

    def pairs(self) -> Mapping[str, tuple[Metric, Metric]]:
        return {"reason": (Metric(math.nan, reason="one class"), Metric(math.nan, reason="no slide"))}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"value": [math.nan], "reason": ["one class"], "n": [-1]}


class TestOutcome(RecordSuite[Outcome]):
    unchecked = frozenset({"digest", "reused"})

    def make(self) -> Outcome:
        return Outcome("a", "tile", "failed", "no pixels", {"tiles": 3}, "d", 1.5, False)

    def changes(self) -> Mapping[str, Any]:
        return {
            "slide_id": "b",
            "stage": "train",
            "status": "skipped",
            "reason": "no tile",
            "digest": "e",
            "counts": {"tiles": 4},
            "seconds": 2.0,
            "reused": True,
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "slide_id": [""],
            "stage": [""],
            "status": ["finished"],
            "reason": [""],
            "counts": [{"tiles": 1.5}, {"tiles": -1}],
            "seconds": [-1.0, math.nan],
        }


class TestAggregatorOutput(RecordSuite[AggregatorOutput]):
    def make(self) -> AggregatorOutput:
        return AggregatorOutput(bags(), torch.zeros(2, 1), torch.ones(5), "logit", {"h": torch.eye(2)})

    def changes(self) -> Mapping[str, Any]:
        return {
            "bags": bags(2.0),
            "bag_logits": torch.ones(2, 1),
            "instance_scores": torch.zeros(5),
            "score_kind": "attention",
            "extras": {"h": torch.ones(2, 2)},
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "bag_logits": [torch.zeros(2), torch.zeros(1, 1), torch.zeros(2, 0)],
            "instance_scores": [torch.ones(4), torch.ones(5, 1)],
            "score_kind": ["rank"],
            "extras": [{"h": 1.0}],
        }

    unchecked = frozenset({"bags"})


class TestQuPathFrame(RecordSuite[QuPathFrame]):
    def make(self) -> QuPathFrame:
        return QuPathFrame("auto", (10, 20), (300, 200))

    def changes(self) -> Mapping[str, Any]:
        return {"mode": "on", "offset_px": (20, 10), "size_px": (200, 300)}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"mode": ["maybe"], "offset_px": [(-1, 0)], "size_px": [(0, 200)]}


class TestScoreKind(RecordSuite[ScoreKind]):
    unchecked = frozenset({"highest"})

    def make(self) -> ScoreKind:
        return replace(SCORE_KINDS["attention"])

    def changes(self) -> Mapping[str, Any]:
        return {
            "name": "gradient",
            "scale": np.sqrt,
            "lowest": -1.0,
            "highest": 2.0,
            "column": "gradient01",
            "measurement": "gradient01",
            "largest": "max01",
            "label": "gradient",
            "rank_label": "rank",
            "threshold01": 0.25,
            "format_version": 3,
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "name": [""],
            "scale": ["sigmoid"],
            "lowest": [1.0],
            "label": [""],
            "rank_label": [""],
            "format_version": [0],
            **{field: ["", "probability"] for field in ("column", "measurement", "largest")},
            "threshold01": [-0.5, 1.5],
        }


class TestSlideScores(RecordSuite[SlideScores]):
    unchecked = frozenset({"tiles_digest", "features_digest", "model_digest"})

    def make(self) -> SlideScores:
        values = np.array([0.25, np.nan, 0.5], np.float32)
        return SlideScores("a", 0.75, (0.25, 0.75), values, "probability", COORDS.copy(), "t", "f", "m")

    def changes(self) -> Mapping[str, Any]:
        return {
            "slide_id": "b",
            "probability": 0.5,
            "class_probabilities": (0.5, 0.5),
            "tile_scores": np.array([0.25, 0.25, 0.5], np.float32),
            "score_kind": "attention",
            "coords": COORDS + 1,
            "tiles_digest": "u",
            "features_digest": "g",
            "model_digest": "n",
        }

    def pairs(self) -> Mapping[str, tuple[SlideScores, SlideScores]]:
        one = replace(self.make(), probability=math.nan, prediction=1.0)
        return {"prediction": (one, replace(one, prediction=2.0))}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "slide_id": [""],
            "probability": [-0.1, 1.1, math.nan],
            "class_probabilities": [(0.5, 1.5)],
            "tile_scores": [
                np.array(values, kind)
                for values, kind in (
                    ([0.5, 0.5], np.float32),
                    ([0.5, 0.5, 0.5], np.float64),
                    ([0.5, 0.5, 1.5], np.float32),
                    ([0.5, 0.5, np.inf], np.float32),
                )
            ],
            "prediction": [1.0, math.nan],
            "score_kind": ["rank"],
            "coords": [COORDS[:, :1], COORDS.astype(np.int64)],
        }


class TestDetection(RecordSuite[Detection]):
    def make(self) -> Detection:
        return Detection("a", 10.5, 20.5, 0.75)

    def changes(self) -> Mapping[str, Any]:
        return {"slide_id": "b", "x0_px": 11.0, "y0_px": 21.0, "score01": 0.5}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"slide_id": [""], **{field: [math.nan, math.inf] for field in ("x0_px", "y0_px", "score01")}}


class TestSlideScoreRow(RecordSuite[SlideScoreRow]):
    unchecked = frozenset(
        {"patient", "predicted", "tiles_digest", "features_digest", "model_digest", "is_positive"}
    )

    def make(self) -> SlideScoreRow:
        return SlideScoreRow("a", "p", 0, "test", 1, 0.75, 0.5, True, 3, "t", "f", "m")

    def changes(self) -> Mapping[str, Any]:
        return {
            "is_positive": False,
            "target": (1.0,),
            "class_probabilities": (0.5, 0.5),
            "slide_id": "b",
            "patient": "q",
            "fold": 1,
            "part": "val",
            "label": None,
            "probability": 0.8,
            "threshold": 0.6,
            "predicted": False,
            "tiles": 4,
            "tiles_digest": "u",
            "features_digest": "g",
            "model_digest": "n",
        }

    def pairs(self) -> Mapping[str, tuple[SlideScoreRow, SlideScoreRow]]:
        one = replace(self.make(), probability=math.nan, threshold=math.nan, prediction=1.0)
        return {"prediction": (one, replace(one, prediction=2.0))}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "target": [(math.nan,)],
            "class_probabilities": [(1.5,)],
            "prediction": [1.0],
            "slide_id": [""],
            "fold": [-1],
            "part": ["held out"],
            "label": [-1],
            "tiles": [-1],
            "probability": [-0.1, 1.1, math.nan],
            "threshold": [math.nan],
        }


class TestSlideScoresHeader(RecordSuite[SlideScoresHeader]):
    unchecked = frozenset({"split_digest", "scheme"})

    def make(self) -> SlideScoresHeader:
        return SlideScoresHeader("m", "d", 2)

    def changes(self) -> Mapping[str, Any]:
        return {"model": "n", "split_digest": "e", "folds": 3, "task": "survival", "scheme": SCHEME}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"model": [""], "folds": [0], "task": [""]}


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


def _suites(base: type[Any] = RecordSuite) -> list[type[Any]]:
    found = base.__subclasses__()
    return found + [further for suite in found for further in _suites(suite)]


def _records() -> list[type[Any]]:
    modules = [
        import_module(f"{wsi_mil.contracts.__name__}.{m.name}")
        for m in iter_modules(wsi_mil.contracts.__path__)
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and is_dataclass(value)
        and value.__module__ == module.__name__
        and value is not Record
    ]


@pytest.mark.parametrize("record", _records(), ids=lambda record: record.__name__)
def test_every_record_has_a_suite(record: type[Any]) -> None:
    assert record in {type(suite().make()) for suite in _suites() if suite.__module__ == __name__}
