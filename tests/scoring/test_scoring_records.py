"""The suites of the records of `wsi_mil.scoring`, and cards of models that are read and written."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders import EncoderSpec
from wsi_mil.errors import ModelError
from wsi_mil.io.json import read_json, write_json
from wsi_mil.scoring import Threshold
from wsi_mil.scoring.calibration import Calibration
from wsi_mil.scoring.card import ModelCard, TrainingRecord, read_card
from wsi_mil.scoring.files import TileScoresHeader
from wsi_mil.tasks import Detection
from wsi_mil.tasks.kinds.regression import Regression
from wsi_mil.testing.records import RecordSuite
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import TrainSpec


class TestThreshold(RecordSuite[Threshold]):
    unchecked = frozenset({"rule", "part", "part_digest"})

    def make(self) -> Threshold:
        return Threshold(0.5, "youden", "val", "d")

    def changes(self) -> Mapping[str, Any]:
        return {"value": 0.6, "rule": "other", "part": "train", "part_digest": "e"}

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"value": [math.nan, math.inf]}


class TestTrainingRecord(RecordSuite[TrainingRecord]):
    unchecked = frozenset({"split_digest", "train_digest", "metrics", "test", "annotated_slides"})

    def make(self) -> TrainingRecord:
        return TrainingRecord(
            spec=TrainSpec(aggregator="abmil", seed=3),
            fold=1,
            repeat=2,
            seed_number=3,
            split_digest="s",
            train_digest="t",
            kept_epoch=4,
            epochs_run=5,
            metrics={"val_auc": 0.75},
            test={"auc": 0.5},
            train_slides=6,
            val_slides=7,
            test_slides=8,
            annotated_slides=("a",),
        )

    def changes(self) -> Mapping[str, Any]:
        numbers = ("fold", "repeat", "seed_number", "kept_epoch", "epochs_run")
        return {
            "spec": TrainSpec(aggregator="abmil"),
            "split_digest": "x",
            "train_digest": "x",
            "metrics": {"val_auc": 0.5},
            "test": {},
            "annotated_slides": (),
            **dict.fromkeys((*numbers, "train_slides", "val_slides", "test_slides"), 9),
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        counts = ("fold", "repeat", "seed_number", "train_slides", "val_slides", "test_slides")
        epochs = {"kept_epoch": [0], "epochs_run": [0]}
        return {"spec": [TrainSpec()], **{name: [-1] for name in counts}, **epochs}


def card() -> ModelCard:
    return ModelCard(
        producer="wsi_mil 1",
        name="m",
        in_features=4,
        n_outputs=1,
        task=Detection(("normal", "tumour")),
        tissue=TissueSpec(),
        tiles=TileSpec(mpp=0.5, size_px=100),
        encoder=EncoderSpec(),
        encoder_digest="e",
        threshold=Threshold(0.5, "youden", "val", "d"),
        training=TestTrainingRecord().make(),
        inputs_digest="i",
        weights_digest="w",
        calibration=Calibration(1.5, (0.1, 0.3), "val", "d"),
    )


class TestModelCard(RecordSuite[ModelCard]):
    unchecked = frozenset(
        {"producer", "task", "tissue", "tiles", "encoder", "encoder_digest", "training", "inputs_digest"}
        | {"weights_digest", "calibration"}
    )

    def make(self) -> ModelCard:
        return card()

    def changes(self) -> Mapping[str, Any]:
        return {
            "producer": "wsi_mil 2",
            "name": "n",
            "in_features": 5,
            "n_outputs": 2,
            "task": Detection(("normal", "grade a")),
            "tissue": TissueSpec(mpp=16.0),
            "tiles": TileSpec(mpp=0.25, size_px=100),
            "encoder": EncoderSpec(name="other"),
            "encoder_digest": "f",
            "threshold": Threshold(0.6, "youden", "val", "d"),
            "training": TrainingRecord(TrainSpec(aggregator="mi_net")),
            "inputs_digest": "j",
            "weights_digest": "x",
            "calibration": None,
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"name": [""], "in_features": [0], "n_outputs": [0], "threshold": [None]}


class TestTileScoresHeader(RecordSuite[TileScoresHeader]):
    unchecked = frozenset({"tiles_digest", "features_digest", "model_digest"})

    def make(self) -> TileScoresHeader:
        return TileScoresHeader("a", "logit", "t", "f", "m")

    def changes(self) -> Mapping[str, Any]:
        digests = {"tiles_digest": "x", "features_digest": "x", "model_digest": "x"}
        return {"slide_id": "b", "score_kind": "attention", "class_names": ("n", "m"), **digests} | {
            "second_kind": "value"
        }

    def invalid(self) -> Mapping[str, list[Any]]:
        return {"slide_id": [""], "score_kind": ["rank"], "class_names": [("n", "n")]} | {
            "second_kind": ["rank"]
        }


def test_a_card_reads_back(tmp_path: Path) -> None:
    card().write(tmp_path)
    assert read_card(tmp_path).equals(card())
    found = json.loads((tmp_path / "model.json").read_text())
    assert found["training"]["spec"]["aggregator"] == "abmil"
    assert found["class_names"] == ["normal", "tumour"]
    assert found["tiles"]["stride_px"] == 100


def test_a_card_of_regression_has_no_threshold(tmp_path: Path) -> None:
    values = {**vars(card()), "task": Regression(mean=2.0, std=3.0)}
    with pytest.raises(ModelError, match="threshold must be given for detection, and only for detection"):
        ModelCard(**values)
    ModelCard(**{**values, "threshold": None}).write(tmp_path)
    assert read_card(tmp_path).task == Regression(mean=2.0, std=3.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_features": None}, "no valid model card"),
        ({"in_features": 0}, "in_features must be a whole number from 1 to 100,000, got 0"),
        ({"tiles": {"mpp": -1}}, "no valid model card"),
        ({"training": {}}, "it lacks 'spec'"),
        ({"training": {"spec": {}, "colour": 1}}, "colour"),
        ({"format_version": 9}, "format 9, this version reads 1 to 3"),
    ],
)
def test_a_wrong_card_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    card().write(tmp_path)
    path = tmp_path / "model.json"
    write_json(path, {**read_json(path), **change})
    with pytest.raises(ModelError, match=message) as caught:
        read_card(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_card_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ModelError, match="is damaged: expected JSON"):
        read_card(tmp_path)
