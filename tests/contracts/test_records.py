"""One suite for each record of `wsi_mil.contracts`, and a test that no record lacks its suite.

Those of slides, tiles and tissue are in test_slide_records.py, those of scores in test_score_records.py.
"""

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
from tests.contracts import test_score_records, test_slide_records
from tests.contracts.values import COORDS, box
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.labels import LabelScheme, SlideLabel
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.metric import Interval, Metric
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.contracts.qupath import QuPathFrame
from wsi_mil.contracts.record import Record
from wsi_mil.testing.records import RecordSuite

BOW_TIE = MultiPolygon([shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])])


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
    unchecked = frozenset({"label", "sources"})

    def make(self) -> Lesion:
        return Lesion("a", "tumour", box(0, 0, 4, 3))

    def changes(self) -> Mapping[str, Any]:
        return {"slide_id": "b", "label": "metastasis", "geometry": box(0, 0, 4, 4), "sources": ("Tumor",)}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"slide_id": [""], "geometry": [MultiPolygon(), BOW_TIE, shapely.box(0, 0, 1, 1)]}


class TestInterval(RecordSuite[Interval]):
    unchecked = frozenset({"one_sided"})

    def make(self) -> Interval:
        return Interval(0.25, 0.75, "bootstrap", 0.95, 1000)

    def changes(self) -> Mapping[str, Any]:
        return {"low": 0.5, "high": 0.8, "method": "Wilson", "level": 0.9, "draws": 10, "one_sided": True}

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
        return {"method": "Wilson", "level": 0.9, "draws": 10, "one_sided": True}

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
    unchecked = frozenset({"digest", "reused", "traceback", "state"})

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
            "cause": "machine",
            "traceback": "Traceback",
            "state": "0123456789abcdef",
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "slide_id": [""],
            "stage": [""],
            "status": ["finished"],
            "reason": [""],
            "cause": ["weather"],
            "counts": [{"tiles": 1.5}, {"tiles": -1}],
            "seconds": [-1.0, math.nan],
        }


class TestAggregatorOutput(RecordSuite[AggregatorOutput]):
    def make(self) -> AggregatorOutput:
        second = {"second_scores": torch.ones(5), "second_kind": "logit"}
        return AggregatorOutput(
            bags(), torch.zeros(2, 1), torch.ones(5), "attention", {"h": torch.eye(2)}, **second
        )

    def changes(self) -> Mapping[str, Any]:
        return {
            "bags": bags(2.0),
            "bag_logits": torch.ones(2, 1),
            "instance_scores": torch.zeros(5),
            "extras": {"h": torch.ones(2, 2)},
            "second_scores": torch.zeros(5),
            "second_kind": "probability",
        }

    def pairs(self) -> Mapping[str, tuple[AggregatorOutput, AggregatorOutput]]:
        one = replace(self.make(), second_scores=None, second_kind="")
        return {"score_kind": (one, replace(one, score_kind="logit"))}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {
            "bag_logits": [torch.zeros(2), torch.zeros(1, 1), torch.zeros(2, 0)],
            "instance_scores": [torch.ones(4), torch.ones(5, 1)],
            "score_kind": ["rank"],
            "extras": [{"h": 1.0}],
            "second_scores": [None, torch.ones(4), torch.ones(5, 1)],
            "second_kind": ["", "rank", "attention"],
        }

    unchecked = frozenset({"bags"})


class TestQuPathFrame(RecordSuite[QuPathFrame]):
    def make(self) -> QuPathFrame:
        return QuPathFrame("auto", (10, 20), (300, 200))

    def changes(self) -> Mapping[str, Any]:
        return {"mode": "on", "offset_px": (20, 10), "size_px": (200, 300)}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"mode": ["maybe"], "offset_px": [(-1, 0)], "size_px": [(0, 200)]}


WITH_SUITES = (__name__, test_score_records.__name__, test_slide_records.__name__)


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
    assert record in {type(suite().make()) for suite in _suites() if suite.__module__ in WITH_SUITES}
