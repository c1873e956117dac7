"""One table of metrics: a metric that is added as one file is found everywhere."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wsi_mil.contracts.metric import Metric
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders import EncoderSpec
from wsi_mil.errors import ConfigError
from wsi_mil.evaluation import metrics, table
from wsi_mil.evaluation.comparison import compare_annotated, compare_slides
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.metrics_file import is_current, metrics_json, write_metrics
from wsi_mil.evaluation.observations import LabelledTiles, SlideObservations
from wsi_mil.evaluation.patch_level import patch_result
from wsi_mil.evaluation.results import FrocResult, MetricsFile
from wsi_mil.evaluation.slide_level import slide_result
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.table import MetricEntry, all_metrics, metrics_at, shown_metrics
from wsi_mil.evaluation.truth import HeldOutSlide
from wsi_mil.io.tables import read_csv
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.trainings import summarise, write_comparison
from wsi_mil.scoring import Threshold
from wsi_mil.scoring.card import ModelCard, TrainingRecord
from wsi_mil.tasks import Detection
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import TrainSpec

SPEC = EvaluationSpec(bootstrap=20)
SPECIFICITY = """
from wsi_mil.evaluation.table import MetricEntry


def specificity(truth, called):
    return float((~called[~truth]).mean()) if not truth.all() else float("nan")


METRICS = (
    MetricEntry("specificity", "slide", "specificity", specificity, ("truth", "called")),
    MetricEntry("specificity", "patch", "patch specificity", specificity, ("truth", "called")),
)
"""
TRUTH = np.array([True, True, True, False, False, False])
SCORES = np.array([0.9, 0.8, 0.3, 0.6, 0.2, 0.1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules count as modules of `wsi_mil/evaluation/metrics/`."""
    added = tmp_path / "added_metrics"
    added.mkdir()
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(added)])
    all_metrics.cache_clear()
    yield added
    all_metrics.cache_clear()
    for path in added.glob("*.py"):
        sys.modules.pop(f"{metrics.__name__}.{path.stem}", None)


def slides(scores: np.ndarray) -> SlideObservations:
    return SlideObservations(tuple("abcdef"), TRUTH, scores, scores >= 0.5)


def held_out(scores: np.ndarray) -> list[HeldOutSlide]:
    found = []
    for patient in "ab":
        tiles = LabelledTiles(patient, patient, TRUTH, scores, scores >= 0.5)
        found.append(HeldOutSlide(patient, patient, 0, tiles, (), Matches((0.2,), (0.8,), 1), (), 0.5))
    return found


def evaluated(scores: np.ndarray) -> MetricsFile:
    tiles = [slide.tiles for slide in held_out(scores)]
    return MetricsFile(
        "m",
        "inputs",
        "split",
        slide_result(slides(scores), [0] * 6, [0.5] * 6, seed=0, model="m", draws=20),
        patch_result(tiles, [0, 0], [], SPEC, model="m"),
        FrocResult({"score": Metric(0.5)}),
    )


def save_card(folder: Path, test: dict[str, float]) -> None:
    spec, metrics = TrainSpec(aggregator="mi_net"), {"val_auc": 0.8}
    ModelCard(
        producer="test",
        name="m",
        in_features=4,
        n_outputs=1,
        task=Detection(("normal", "tumour")),
        tissue=TissueSpec(),
        tiles=TileSpec(),
        encoder=EncoderSpec(),
        encoder_digest="e",
        threshold=Threshold(0.5, "youden", "val", "d"),
        training=TrainingRecord(spec, test_slides=6, metrics=metrics, test=test),
        inputs_digest="i",
        weights_digest="w",
    ).write(folder)


def test_a_metric_in_one_file_is_found_everywhere(folder: Path, tmp_path: Path) -> None:
    before = evaluated(SCORES)
    (folder / "specificity.py").write_text(SPECIFICITY)
    all_metrics.cache_clear()
    # metrics.json
    found = evaluated(SCORES)
    assert found.slide.metrics["specificity"].value == pytest.approx(2 / 3)
    assert found.patch.metrics["specificity"].value == pytest.approx(2 / 3)
    assert found.patch.facts is not None
    assert found.patch.facts.per_slide["specificity"].mean == pytest.approx(2 / 3)
    assert metrics_json(found)["slide"]["specificity"] == pytest.approx(2 / 3)
    path = tmp_path / "metrics.json"
    write_metrics(path, before)
    assert not is_current(path, "inputs", "detection"), "a file without the new metric is made again"
    write_metrics(path, found)
    assert is_current(path, "inputs", "detection")
    # intervals of the others stay
    assert all(found.slide.metrics[name] == metric for name, metric in before.slide.metrics.items())
    # the comparison of two models
    other = np.where(SCORES == 0.6, 0.4, SCORES)
    compared = compare_slides(slides(SCORES), slides(other), ("m", "n"), SPEC)
    assert compared.differences["specificity"].difference == pytest.approx(2 / 3 - 1)
    annotated = compare_annotated(held_out(SCORES), held_out(other), ("m", "n"), SPEC)
    assert annotated.patch["specificity"].difference == pytest.approx(2 / 3 - 1)
    # the comparison over trainings
    run = RunFolder(tmp_path / "run")
    save_card(run.model("m", 0), {"auc": 0.9, "specificity": 0.75})
    (row,) = read_csv(write_comparison(run, ["m"], 1))
    assert row.number("test_specificity") == 0.75
    summary = dict(zip(*summarise(run.comparison), strict=True))
    assert summary["specificity"] == "0.750"
    # the tables for people
    assert "specificity" in [entry.title for entry in shown_metrics("report", "detection")]
    assert "patch specificity" in [entry.title for entry in shown_metrics("terminal", "detection")]


def test_two_metrics_of_one_name_are_refused(folder: Path) -> None:
    (folder / "again.py").write_text(SPECIFICITY.replace("specificity", "auc"))
    with pytest.raises(
        ConfigError, match=r"metrics\.auc and .*metrics\.again both define the slide metric 'auc'"
    ):
        all_metrics()


def test_other_packages_offer_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        value = "other_package.metrics:METRICS"

        def load(self) -> tuple[MetricEntry, ...]:
            return (MetricEntry("mine", "slide", "mine", lambda truth: 0.25, ("truth",)),)

    monkeypatch.setattr(table, "entry_points", lambda group: [Point()] if group == "wsi_mil.metrics" else [])
    all_metrics.cache_clear()
    try:
        assert "mine" in [entry.name for entry in metrics_at("slide", "detection")]
        assert evaluated(SCORES).slide.metrics["mine"].value == 0.25
    finally:
        all_metrics.cache_clear()


def test_the_order_of_tables_and_of_files() -> None:
    shown = [entry.title for entry in shown_metrics("report", "detection")]
    assert shown == [
        "slide AUC",
        "average precision",
        "accuracy",
        "F1",
        "patch AUC",
        "patch AUPRC",
        "FROC",
        "Brier",
    ]
    assert [entry.short or entry.title for entry in shown_metrics("terminal", "detection")][:4] == [
        "slide AUC",
        "AP",
        "accuracy",
        "F1",
    ]
    assert all(len(entry.short or entry.title) <= 14 for entry in shown_metrics("terminal", "detection"))
    assert [entry.name for entry in metrics_at("pixel", "detection")] == ["dice"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "two words"}, "letters, digits and underscores"),
        ({"level": "organ"}, "level must be one of slide, patch, lesion, pixel"),
        ({"needs": ("matches",)}, "level slide has no 'matches' to need, it has truth, scores"),
        ({"needs": ("scores",), "both_classes": True}, "`needs` must hold it"),
    ],
)
def test_a_wrong_entry_is_refused(changes: dict[str, object], message: str) -> None:
    values = {"name": "m", "level": "slide", "title": "m", "function": len, "needs": ("truth",)} | changes
    with pytest.raises(ConfigError, match=message):
        MetricEntry(**values)  # type: ignore[arg-type]
