"""The learning rate that validation slides choose, with trainings made by hand."""

from pathlib import Path

import pytest

from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.errors import ConfigError
from wsi_mil.io.tables import read_csv
from wsi_mil.stages.search import best_rate
from wsi_mil.tasks import Detection
from wsi_mil.training import FitResult, TrainSpec
from wsi_mil.training.loop import HISTORY

VAL = {1e-4: (0.8, 0.5), 1e-3: (0.9, 0.6), 1e-2: (0.9, 0.4), 1e-1: (0.7, 0.1)}
"""Learning rate -> validation AUC and loss."""


def train(spec: TrainSpec, folder: Path) -> tuple[Aggregator, TrainSpec, FitResult]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HISTORY).write_text(f"lr {spec.lr:g}")
    auc, loss = VAL[spec.lr]
    metrics = {"val_auc": auc, "val_loss": loss}
    result = FitResult(3, metrics, [metrics], Detection.of(2))
    return build_aggregator("mi_net", 4, 1, 0, {}), spec, result


def test_the_best_validation_measure_is_chosen_and_among_equals_the_lower_loss(tmp_path: Path) -> None:
    spec = TrainSpec(search=tuple(VAL), lr=0.5)
    _, chosen, result = best_rate(spec, tmp_path, train)
    assert (chosen.lr, result.metrics["val_auc"]) == (1e-2, 0.9)
    rows = read_csv(tmp_path / "search.csv")
    assert [row.number("lr") for row in rows] == list(VAL)
    assert [row["chosen"] for row in rows] == ["0", "0", "1", "0"]
    assert [row.number("val_loss") for row in rows] == [loss for _, loss in VAL.values()]
    assert (tmp_path / HISTORY).read_text() == "lr 0.01"


def test_by_loss_if_the_loss_chooses_epochs(tmp_path: Path) -> None:
    _, chosen, _ = best_rate(TrainSpec(search=tuple(VAL), select_by="val_loss"), tmp_path, train)
    assert chosen.lr == 1e-1


def test_without_search_the_rate_is_that_of_the_settings(tmp_path: Path) -> None:
    _, chosen, _ = best_rate(TrainSpec(lr=1e-3), tmp_path, train)
    assert chosen.lr == 1e-3
    assert (tmp_path / HISTORY).read_text() == "lr 0.001"
    assert not (tmp_path / "search.csv").exists()


def test_without_validation_there_is_nothing_to_choose_by(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.search needs validation slides"):
        best_rate(TrainSpec(search=(1e-3,), select_by="last"), tmp_path, train)
