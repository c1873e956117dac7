"""One suite for each record of scores."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tests.contracts.values import COORDS
from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.contracts.score_kinds import SCORE_KINDS, ScoreKind
from wsi_mil.contracts.scores import Detection, SlideScoreRow, SlideScores, SlideScoresHeader
from wsi_mil.testing.records import RecordSuite

SCHEME = LabelScheme(("n", "a"), ("a",), ("n",), "words")


class TestScoreKind(RecordSuite[ScoreKind]):
    unchecked = frozenset({"highest", "is_probability"})

    def make(self) -> ScoreKind:
        return replace(SCORE_KINDS["attention"])

    def changes(self) -> Mapping[str, Any]:
        return {
            "name": "gradient",
            "scale": np.sqrt,
            "is_probability": True,
            "lowest": -1.0,
            "highest": 2.0,
            "column": "gradient01",
            "measurement": "gradient01",
            "largest": "max01",
            "label": "gradient",
            "rank_label": "rank",
            "label_within": "gradient of the slide",
            "format_version": 4,
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
            "label_within": [""],
        }


class TestSlideScores(RecordSuite[SlideScores]):
    unchecked = frozenset({"tiles_digest", "features_digest", "model_digest"})

    def make(self) -> SlideScores:
        values = np.array([0.25, np.nan, 0.5], np.float32)
        scores = SlideScores("a", 0.75, (0.25, 0.75), values, "probability", COORDS.copy(), "t", "f", "m")
        return replace(scores, second_scores=values / 2, second_kind="attention")

    def changes(self) -> Mapping[str, Any]:
        return {
            "slide_id": "b",
            "probability": 0.5,
            "class_probabilities": (0.5, 0.5),
            "tile_scores": np.array([0.25, 0.25, 0.5], np.float32),
            "score_kind": "logit",
            "coords": COORDS + 1,
            "second_scores": np.array([0.25, 0.25, 0.5], np.float32),
            "tiles_digest": "u",
            "features_digest": "g",
            "model_digest": "n",
        }

    def pairs(self) -> Mapping[str, tuple[SlideScores, SlideScores]]:
        one = replace(self.make(), probability=math.nan, prediction=1.0)
        tiles = np.array([[0.25, 0.75]] * 3, np.float32)
        classes = replace(one, class_names=("n", "m"), tile_class_probabilities=tiles)
        attention = replace(self.make(), score_kind="attention", second_kind="logit")
        return {
            "second_kind": (attention, replace(attention, second_kind="probability")),
            "prediction": (one, replace(one, prediction=2.0)),
            "class_names": (classes, replace(classes, class_names=("n", "o"))),
            "tile_class_probabilities": (classes, replace(classes, tile_class_probabilities=tiles[:, ::-1])),
        }

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
            "class_names": [("n", "n")],
            "tile_class_probabilities": [np.zeros((3, 2), np.float32)],
            "score_kind": ["rank"],
            "coords": [COORDS[:, :1], COORDS.astype(np.int64)],
            "second_kind": ["", "rank", "probability", "logit"],
            "second_scores": [None, np.zeros(2, np.float32), np.full(3, np.inf, np.float32)],
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
        changed = {"model": "n", "split_digest": "e", "folds": 3, "task": "survival", "scheme": SCHEME}
        return {**changed, "second_kind": "logit", "not_learned": (1,)}

    def invalid(self) -> Mapping[str, list[Any]]:
        values: dict[str, list[Any]] = {"model": [""], "folds": [0], "task": [""], "second_kind": ["rank"]}
        return {**values, "not_learned": [(2,), (-1,)]}
