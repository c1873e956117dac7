"""Runs whose labels are words: the right class is positive everywhere, and every subcommand says which.

The slides, tiles and features are those of a finished run whose labels are 0 and 1.
"""

import csv
import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from sklearn.metrics import confusion_matrix, roc_auc_score

from wsi_mil.bags import read_labels
from wsi_mil.cli.main import cli
from wsi_mil.io.json import read_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores

pytestmark = pytest.mark.slow
WORDS = {0: "normal", 1: "cancer"}  # sorted, cancer comes first
LINE = "labels: positive class cancer, negative class normal (by known words)"
NAME = "focus_mil"
TWO: dict[str, Any] = {NAME: {}, "abmil_gated": {}}
SHORT = {"epochs": 3, "lr": 0.001}
FOLDS = {"kind": "kfold", "folds": 3, "val_share": 0.5}


def call(*arguments: object) -> str:
    found = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.output
    return found.output


def with_labels(
    folder: Path,
    small_run: Path,
    quick_config: dict[str, Any],
    word: Callable[[int, int], str],
    **changes: object,
) -> Path:
    """Write a configuration of a run on the features of `small_run`; return its path.

    word: number of the slide and 0 or 1 -> its label.
    """
    run = folder / "run"
    run.mkdir()
    for part in ("slides", "tissue", "previews", "outcomes.csv", "provenance.json"):
        source = small_run / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, run / part)
    rows = sorted(read_labels(Path(quick_config["slides"]["labels"])).rows.items())
    with (folder / "labels.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["filename", "case_id", "label"])
        for number, (slide_id, row) in enumerate(rows):
            writer.writerow([f"{slide_id}.tiff", row.patient, word(number, int(row.label or 0))])
    slides = {**quick_config["slides"], "labels": str(folder / "labels.csv")}
    config = {**quick_config, "run": str(run), "slides": slides, "models": {NAME: {}}, **changes}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    return folder / "run.yaml"


def classes_in_qupath(run: RunFolder, slide_id: str, kind: str) -> Counter[str]:
    with gzip.open(run.heatmap(NAME, slide_id, "geojson.gz")) as file:
        objects = [one["properties"] for one in json.load(file)["features"]]
    return Counter(one["classification"]["name"] for one in objects if one["objectType"] == kind)


def slides_of(metrics: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: metrics["slide"][key] for key in keys}


def test_cancer_and_normal_give_the_results_of_1_and_0(
    small_run: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    config = with_labels(tmp_path, small_run, quick_config, lambda _, label: WORDS[label])
    run, numbers = RunFolder(tmp_path / "run"), RunFolder(small_run)
    for subcommand in ("train", "score", "heatmap", "evaluate", "report", "run"):
        assert call(subcommand, config).count(LINE) == 1, subcommand
    assert LINE in call("audit", run.path, "--slides", 1)
    slide = sorted(Path(quick_config["slides"]["folder"]).rglob("*.tif*"))[0]
    said = call("predict", run.model(NAME, 0), slide, "--out", tmp_path / "new")
    assert LINE in said

    words, same = (read_json(one.evaluation(NAME) / "metrics.json") for one in (run, numbers))
    assert words["slide"] == same["slide"]
    assert words["patch"] == same["patch"]
    assert words["froc"] == same["froc"]
    assert words["labels"] == {
        "class_names": ["normal", "cancer"],
        "positive": ["cancer"],
        "negative": ["normal"],
        "decided": "by known words",
    }
    truth = {s: row.label for s, row in read_labels(Path(quick_config["slides"]["labels"])).rows.items()}
    for row in read_slide_scores(run.slide_scores(NAME))[0]:
        assert row.is_positive == (truth[row.slide_id] == 1)
        if row.part == "test":
            drawn = classes_in_qupath(run, row.slide_id, "annotation")
            assert drawn == classes_in_qupath(numbers, row.slide_id, "annotation")
    page = run.report.read_text(encoding="utf-8")
    assert LINE.removeprefix("labels: ") in page
    assert "<th>cancer</th>" in page


def test_the_meaning_cannot_change_between_scores_and_metrics(
    small_run: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    config = with_labels(tmp_path, small_run, quick_config, lambda _, label: ("a", "b")[label])
    refused = CliRunner().invoke(cli, ["train", str(config)])
    assert refused.exit_code == 1
    assert "slides: {positive: [b]}" in str(refused.exception)
    for subcommand in ("train", "score"):
        call(subcommand, config, "slides.positive=[b]")
    changed = CliRunner().invoke(cli, ["evaluate", str(config), "slides.positive=[a]"])
    assert changed.exit_code == 1
    assert "run `wsi-mil train` and `wsi-mil score` again" in str(changed.exception)


def test_two_cancers_and_normal_are_measured_class_by_class(
    small_run: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    names = ("normal", "LUAD", "LUSC")
    kinds = {0: ("normal", "normal"), 1: ("LUAD", "LUSC")}
    seen: Counter[int] = Counter()

    def word(_: int, label: int) -> str:
        seen[label] += 1
        return kinds[label][seen[label] % 2]

    config = with_labels(tmp_path, small_run, quick_config, word, split=FOLDS, models=TWO, train=SHORT)
    said = call("run", config)
    assert "labels: positive classes LUAD, LUSC, negative class normal (normal is a known word" in said
    run = RunFolder(tmp_path / "run")
    rows = [row for row in read_slide_scores(run.slide_scores(NAME))[0] if row.part == "test"]
    truth = np.array([row.label for row in rows])
    probabilities = np.array([row.class_probabilities for row in rows])
    found = read_json(run.evaluation(NAME) / "metrics.json")
    assert found["slide"]["auc"] == pytest.approx(roc_auc_score(truth > 0, 1 - probabilities[:, 0]))
    assert found["classes"]["macro_auc"] == pytest.approx(
        roc_auc_score(truth, probabilities, multi_class="ovr"), abs=1e-6
    )
    assert found["classes"]["confusion"] == confusion_matrix(truth, probabilities.argmax(1)).tolist()
    assert [one["name"] for one in found["classes"]["each"]] == list(names)
    assert {row.label for row in rows} == {0, 1, 2}
    of_attention, _ = read_slide_scores(run.slide_scores("abmil_gated"))
    for row in (*rows, *of_attention):
        assert sum(row.class_probabilities) == pytest.approx(1)
        assert row.probability == pytest.approx(1 - row.class_probabilities[0])
    for row in rows:
        for class_name in names[1:]:
            assert run.class_heatmap(NAME, class_name, row.slide_id, "png").exists()
            assert run.class_heatmap("abmil_gated", class_name, row.slide_id, "png").exists()
        assert not run.class_heatmap(NAME, "normal", row.slide_id, "png").exists()
    assert "Each class against all others" in run.report.read_text(encoding="utf-8")
    printed = call("evaluate", config)
    assert "each class against all others" in printed
    assert "as LUSC" in printed


def test_subtypes_have_maps_and_no_patch_metrics(
    small_run: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    config = with_labels(
        tmp_path,
        small_run,
        quick_config,
        lambda _, label: ("LUAD", "LUSC")[label],
        task={"kind": "classification"},
    )
    said = call("run", config)
    assert "labels: classes LUAD, LUSC, none is positive (task classification has no normal class)" in said
    run = RunFolder(tmp_path / "run")
    found = read_json(run.evaluation(NAME) / "metrics.json")
    assert found["labels"]["positive"] == []
    assert found["patch"]["auc"] is None
    assert "does not apply to classification" in found["patch"]["reasons"]["auc"]
    assert [one["name"] for one in found["classes"]["each"]] == ["LUAD", "LUSC"]
    assert found["classes"]["each"][1]["auc"] == pytest.approx(found["slide"]["macro_auc"])
    for row in read_slide_scores(run.slide_scores(NAME))[0]:
        if row.part == "test":
            assert set(classes_in_qupath(run, row.slide_id, "tile")) <= {"LUAD", "LUSC"}
            assert run.class_heatmap(NAME, "LUAD", row.slide_id, "ome.tif").exists()
