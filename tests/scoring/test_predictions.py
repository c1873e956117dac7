"""Scores of tasks other than detection: records, files, and models with their task."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from wsi_mil.aggregators import build_aggregator
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.scores import SlideScoreRow, SlideScores, SlideScoresHeader
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders import EncoderSpec
from wsi_mil.errors import DataError, ModelError
from wsi_mil.io.json import read_json
from wsi_mil.scoring import (
    Threshold,
    TrainedModel,
    load_model,
    read_slide_scores,
    read_tile_scores,
    score_features,
    write_slide_scores,
)
from wsi_mil.scoring.card import TrainingRecord
from wsi_mil.scoring.files import write_tile_scores
from wsi_mil.tasks import Detection, Task
from wsi_mil.tasks.kinds.ordinal import Ordinal
from wsi_mil.tasks.kinds.regression import Regression
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import Standardizer, TrainSpec

FEATURES = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float16)
TABLE = FeatureTable(
    "s",
    "texture",
    "enc",
    "tiles",
    0.5,
    FEATURES,
    np.array([[x * 50, y * 50] for y in range(3) for x in range(3)], np.int32),
    np.ones(9, bool),
    "features",
)


def model(task: Task, aggregator: str = "mi_net", threshold: Threshold | None = None) -> TrainedModel:
    outputs = task.n_outputs(1, "auto")
    return TrainedModel(
        name="m",
        aggregator=build_aggregator(aggregator, 6, outputs, 0, {}, task).eval(),
        standardizer=Standardizer(torch.zeros(6), torch.ones(6)),
        task=task,
        tissue=TissueSpec(),
        tiles=TileSpec(mpp=0.5, size_px=100),
        encoder=EncoderSpec(),
        encoder_digest="enc",
        threshold=threshold,
        training=TrainingRecord(TrainSpec(aggregator=aggregator)),
    )


def test_a_regression_is_scored_in_the_unit_of_its_label() -> None:
    plain, scaled = (
        score_features(model(task), TABLE) for task in (Regression(), Regression(mean=50.0, std=10.0))
    )
    assert plain.prediction is not None
    assert scaled.prediction == pytest.approx(50 + 10 * plain.prediction)
    assert math.isnan(scaled.probability)
    assert scaled.class_probabilities == ()
    assert scaled.score_kind == "value"
    order = np.argsort(scaled.tile_scores)
    assert scaled.tile_scores01()[order].tolist() == pytest.approx([i / 9 for i in range(1, 10)])


def test_an_ordinal_model_predicts_its_most_probable_class() -> None:
    found = score_features(model(Ordinal(("low", "mid", "high")), "abmil_gated"), TABLE)
    assert sum(found.class_probabilities) == pytest.approx(1)
    assert found.prediction == int(np.argmax(found.class_probabilities))
    assert found.score_kind == "attention"


def test_tile_scores_with_a_prediction_read_back(tmp_path: Path) -> None:
    scores = score_features(model(Regression(mean=5.0)), TABLE)
    write_tile_scores(tmp_path / "s.parquet", scores)
    again = read_tile_scores(tmp_path / "s.parquet")
    assert again.prediction == scores.prediction
    assert math.isnan(again.probability)
    assert again.score_kind == "value"
    np.testing.assert_array_equal(again.tile_scores, scores.tile_scores)
    assert "probability" not in pq.read_schema(tmp_path / "s.parquet").names


def row(
    slide_id: str, prediction: float, target: tuple[float, ...], classes: tuple[float, ...] = ()
) -> SlideScoreRow:
    nan = math.nan
    return SlideScoreRow(
        slide_id, "p", 0, "test", None, nan, nan, False, 3, "t", "f", "m", prediction, target, classes
    )


def test_slide_scores_with_predictions_read_back_and_hold_no_probability(tmp_path: Path) -> None:
    path = tmp_path / "slides.parquet"
    rows = [row("a", 1.5, (2.0, 1.0)), row("b", -0.5, (), (0.25, 0.75))]
    write_slide_scores(path, rows, SlideScoresHeader("m", "d", 1, "survival"))
    found, header = read_slide_scores(path)
    assert header.task == "survival"
    assert [(r.prediction, r.target, r.class_probabilities) for r in found] == [
        (1.5, (2.0, 1.0), ()),
        (-0.5, (), (0.25, 0.75)),
    ]
    assert [r.labelled for r in found] == [True, False]
    assert not {"probability", "threshold", "predicted"} & set(pq.read_schema(path).names)
    before = path.stat().st_mtime_ns
    write_slide_scores(path, rows, header)
    assert path.stat().st_mtime_ns == before


def test_a_prediction_and_a_probability_exclude_each_other() -> None:
    with pytest.raises(DataError, match="probability must be NaN beside a prediction"):
        replace(row("a", 1.0, ()), probability=0.5)
    with pytest.raises(
        DataError, match="threshold must be a number for detection and NaN for any other task"
    ):
        replace(row("a", 1.0, ()), threshold=0.5)
    with pytest.raises(DataError, match="probability must be from 0 to 1"):
        SlideScores("s", math.nan, (), np.zeros(1, np.float32), "value", TABLE.coords[:1], "", "", "")
    with pytest.raises(ModelError, match="only detection, has a threshold"):
        model(Detection(("normal", "tumour")))
    with pytest.raises(ModelError, match="only detection, has a threshold"):
        model(Regression(), threshold=Threshold(0.5, "", "val", ""))


def test_a_model_keeps_its_task(tmp_path: Path) -> None:
    task = Regression(mean=3.0, std=2.0)
    model(task).save(tmp_path / "m", "inputs")
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    assert (card["format_version"], card["task"]["kind"], card["threshold"]) == (3, "regression", None)
    again = load_model(tmp_path / "m")
    assert again.task == task
    assert score_features(again, TABLE).prediction == score_features(model(task), TABLE).prediction


def test_a_model_of_format_1_is_one_of_detection(tmp_path: Path) -> None:
    """As the version before wrote it: no task, a threshold."""
    task = Detection(("normal", "tumour"))
    model(task, threshold=Threshold(0.4, "youden", "val", "abc")).save(tmp_path / "m", "inputs")
    path = tmp_path / "m" / "model.json"
    card = read_json(path)
    assert card.pop("task") == {"kind": "detection", "class_names": ["normal", "tumour"]}
    path.write_text(json.dumps({**card, "format_version": 1}))
    found = load_model(tmp_path / "m")
    assert found.task == task
    assert found.threshold == Threshold(0.4, "youden", "val", "abc")
