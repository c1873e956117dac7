"""metrics.json holds what the records hold, and reads back to equal records."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.contracts.metric import Interval, Metric
from wsi_mil.contracts.scores import Detection
from wsi_mil.errors import ConfigError, StoreError
from wsi_mil.evaluation.froc import LesionFound, Matches
from wsi_mil.evaluation.lesion_level import froc_result
from wsi_mil.evaluation.measure import all_undefined
from wsi_mil.evaluation.metrics_file import FORMAT, is_current, metrics_json, read_metrics, write_metrics
from wsi_mil.evaluation.observations import LabelledTiles, SlideObservations
from wsi_mil.evaluation.patch_level import patch_result
from wsi_mil.evaluation.results import ClassesResult, ClassResult, FrocResult, MetricsFile, PatchResult
from wsi_mil.evaluation.slide_level import slide_result
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import HeldOutSlide
from wsi_mil.io.json import read_json

LABELS = LabelScheme(("normal", "tumour"), ("tumour",), ("normal",), "by known words")
SPEC = EvaluationSpec(bootstrap=10, froc_mode="corrected")
TRUTH = np.array([True, True, False, False, True, False])
SCORES = np.array([0.9, 0.4, 0.6, 0.1, 0.8, 0.2])
PATIENTS = tuple("abcdef")


@pytest.fixture
def found() -> MetricsFile:
    data = SlideObservations(PATIENTS, TRUTH, SCORES, SCORES >= 0.5)
    slides = []
    for number, patient in enumerate("ab"):
        tiles = LabelledTiles(patient, patient, TRUTH, SCORES, SCORES > 0.5)
        detections = (Detection(patient, 10, 10, 0.9), Detection(patient, 50, 50, 0.7))
        lesion = LesionFound(patient, 10.0, 10.0, 900.0, False, 0.9)
        matches = Matches((0.7,), (0.9,), 1, (1,))
        slides.append(HeldOutSlide(patient, patient, number, tiles, detections, matches, (lesion,), 0.5))
    return MetricsFile(
        "m",
        "inputs",
        "split",
        slide_result(data, [0, 1, 0, 1, 0, 1], [0.5, 0.4] * 3, seed=0, model="m", draws=10),
        patch_result([slide.tiles for slide in slides], [0, 1], ["c"], SPEC, model="m"),
        froc_result(slides, SPEC, model="m"),
        labels=LABELS,
        classes=ClassesResult(
            {"macro_auc": Metric(0.75, Interval(0.5, 1.0, "bootstrap", 0.95, 10), "", 6)},
            (
                ClassResult("normal", 4, {"auc": Metric(0.5, None, "", 4)}),
                ClassResult("tumour", 2, {"auc": Metric(math.nan, None, "no slide", 2)}),
            ),
            ((3, 1), (0, 2)),
        ),
        second_patch=patch_result(
            [replace(slide.tiles, scores=-SCORES, score_kind="logit") for slide in slides],
            [0, 1],
            ["c"],
            SPEC,
            model="m",
        ),
    )


def test_it_reads_back_to_equal_records(found: MetricsFile, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(path, found)
    read = read_metrics(path)
    assert read is not None
    assert read == found
    assert read.metrics("lesion") == found.froc.metrics


def test_the_keys_that_other_programs_read(found: MetricsFile) -> None:
    whole = metrics_json(found)
    assert (whole["kind"], whole["format_version"], whole["task"]) == ("metrics", FORMAT, "detection")
    slide, patch, froc = whole["slide"], whole["patch"], whole["froc"]
    assert slide["auc"] == slide["intervals"]["auc"]["value"] == pytest.approx(8 / 9)
    assert set(slide["intervals"]["auc"]) == {"value", "low", "high", "draws", "level", "method", "one_sided"}
    assert slide["metrics"] == [
        "auc",
        "average_precision",
        "accuracy",
        "balanced_accuracy",
        "f1",
        "brier",
    ]
    assert slide["confusion"] == {"tp": 2, "fp": 1, "fn": 1, "tn": 2}
    assert slide["calibration"]["brier"] == slide["brier"]
    assert set(slide["calibration"]["bins"][0]) == {
        "from",
        "to",
        "slides",
        "mean_probability",
        "share_positive",
        "low",
        "high",
    }
    assert slide["thresholds"] == [[0, 0.5], [1, 0.4]]
    assert slide["folds"]["auc"] == pytest.approx([1.0, 1.0])
    assert slide["delong"]["auc"] == pytest.approx(slide["auc"])
    assert (slide["delong"]["method"], slide["delong"]["n_patients"]) == ("DeLong", 6)
    assert slide["delong"]["stated"]["method"] == "DeLong on the logit scale"
    assert patch["per_slide"]["dice"] == {"mean": pytest.approx(2 / 3), "n_slides": 2}
    assert patch["slides_without_annotation"] == ["c"]
    assert (patch["score_kind"], whole["patch_second"]["score_kind"]) == ("probability", "logit")
    assert whole["patch_second"]["auc"] == pytest.approx(1 - patch["auc"]), "the scores are the negative ones"
    assert patch["truth"] == "at least 0.5 of the tile's area in a lesion"
    assert froc["score"] == froc["intervals"]["score"]["value"]
    assert froc["by_size"][1] == {"size": "0.2 to 2 mm", "lesions": 2, "found": 2}
    assert froc["false_positives_at_threshold"] == 2
    assert froc["sensitivity_at_fp_per_slide"]["1.0"] == 1.0
    assert froc["mask_mpp"] == 7.776


def test_what_is_undefined_is_null_with_a_reason(found: MetricsFile, tmp_path: Path) -> None:
    one_class = SlideObservations(("a", "b"), np.ones(2, bool), SCORES[:2], np.ones(2, bool))
    bare = replace(
        found,
        slide=slide_result(one_class, [0, 0], [0.5, 0.5], seed=0, model="m", draws=3),
        patch=PatchResult(all_undefined("patch", "no annotations")),
        froc=FrocResult(all_undefined("lesion", "no annotations")),
    )
    path = tmp_path / "metrics.json"
    write_metrics(path, bare)
    whole = read_json(path)
    assert whole["slide"]["auc"] is None
    assert whole["slide"]["intervals"]["auc"] is None
    assert whole["slide"]["reasons"]["auc"] == "undefined: 2 positive of 2 slides"
    assert "two slides of each class" in whole["slide"]["reasons"]["delong"]
    assert "delong" not in whole["slide"]
    assert set(whole["patch"]) == {"metrics", "auc", "auprc", "f1", "intervals", "reasons"}
    assert whole["froc"]["reasons"] == {"score": "no annotations"}
    read = read_metrics(path)
    assert read is not None
    assert math.isnan(read.slide.metrics["auc"].value)
    assert (read.slide.delong, read.slide.folds, read.patch.facts, read.froc.facts) == (None,) * 4
    assert read.slide.delong_reason == bare.slide.delong_reason
    assert is_current(path, "inputs", "detection", LABELS)


def test_limits_that_few_draws_support_stay_undefined(found: MetricsFile, tmp_path: Path) -> None:
    nan = Metric(0.5, Interval(math.nan, math.nan, "percentile bootstrap", draws=3), n=6)
    slide = replace(found.slide, metrics={**found.slide.metrics, "auc": nan})
    write_metrics(tmp_path / "m.json", replace(found, slide=slide))
    read = read_metrics(tmp_path / "m.json")
    assert read is not None
    interval = read.slide.metrics["auc"].interval
    assert interval is not None
    assert not interval.defined
    assert interval.draws == 3


def test_a_file_is_current_only_for_its_inputs_task_and_metrics(found: MetricsFile, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    assert not is_current(path, "inputs", "detection", LABELS)
    write_metrics(path, found)
    assert is_current(path, "inputs", "detection", LABELS)
    assert not is_current(path, "others", "detection", LABELS)
    assert not is_current(
        path, "inputs", "detection", LabelScheme(("normal", "tumour"), (), (), "by the user")
    )
    assert not is_current(path, "inputs", "classification", LABELS)
    for level in ("slide", "patch", "froc"):
        whole = metrics_json(found)
        whole[level]["metrics"] = whole[level]["metrics"][1:]
        path.write_text(json.dumps(whole))
        assert not is_current(path, "inputs", "detection", LABELS), level


def test_old_files_count_as_absent_and_damaged_ones_are_named(found: MetricsFile, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    assert read_metrics(path) is None
    for old in (1, 2, 3, 4, 5, None):
        path.write_text(json.dumps({"format_version": old, "slide": {}}))
        assert read_metrics(path) is None
    whole = metrics_json(found)
    del whole["froc"]["by_size"]
    path.write_text(json.dumps(whole))
    with pytest.raises(
        StoreError, match=r"metrics\.json is damaged \(KeyError: 'by_size'\): remove it and run"
    ):
        read_metrics(path)
    assert not is_current(path, "inputs", "detection", LABELS)
    path.write_text("{")
    with pytest.raises(StoreError, match=r"metrics\.json is damaged"):
        read_metrics(path)


def test_a_metric_cannot_take_the_name_of_a_key(found: MetricsFile) -> None:
    slide = replace(found.slide, metrics={**found.slide.metrics, "confusion": Metric(0.5)})
    with pytest.raises(ConfigError, match="cannot be named 'confusion'"):
        metrics_json(replace(found, slide=slide))
