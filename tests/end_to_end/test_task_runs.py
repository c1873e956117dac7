"""Runs of every task but detection: from the column of a label table to metrics, heatmaps, report and
predictions.

All share the features of one finished run. Labels are made from the lesions of the synthetic cohort, whose
truth is known; every metric is compared with another library, computed from predictions.csv.
"""

import csv
import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, cohen_kappa_score, r2_score

from wsi_mil.bags import Split, read_labels
from wsi_mil.cli.main import cli
from wsi_mil.config.loading import load_config, parse_config
from wsi_mil.errors import ConfigError
from wsi_mil.io.json import read_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import load_model, read_slide_scores
from wsi_mil.stages import run_pipeline
from wsi_mil.stages.compare import run_compare
from wsi_mil.stages.pipeline import refine_run
from wsi_mil.stages.predict import predict_slides

Rows = list[dict[str, str]]


def concordance(rows: Rows) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lifelines.utils import concordance_index
    columns = ([float(row[name]) for row in rows] for name in ("time", "prediction", "event"))
    times, risks, events = columns
    return float(concordance_index(times, [-risk for risk in risks], events))


def numbers(rows: Rows, column: str) -> list[float]:
    return [float(row[column]) for row in rows]


TASKS: dict[str, tuple[dict[str, Any], Callable[[Rows], dict[str, float]]]] = {
    "regression": (
        {"kind": "regression", "columns": {"value": "burden"}},
        lambda rows: {
            "r2": r2_score(numbers(rows, "value"), numbers(rows, "prediction")),
            "pearson": pearsonr(numbers(rows, "value"), numbers(rows, "prediction")).statistic,
            "mae": float(np.abs(np.subtract(numbers(rows, "value"), numbers(rows, "prediction"))).mean()),
        },
    ),
    "survival": (
        {"kind": "survival", "columns": {"time": "months", "event": "died"}},
        lambda rows: {"concordance": concordance(rows)},
    ),
    "discrete_survival": (
        {"kind": "discrete_survival", "columns": {"time": "months", "event": "died"}, "params": {"bins": 3}},
        lambda rows: {"concordance": concordance(rows)},
    ),
    "ordinal": (
        {"kind": "ordinal", "columns": {"label": "grade"}},
        lambda rows: {
            "quadratic_kappa": cohen_kappa_score(
                [GRADES.index(row["label"]) for row in rows],
                [GRADES.index(row["prediction"]) for row in rows],
                weights="quadratic",
            ),
        },
    ),
    "classification": (
        {"kind": "classification", "columns": {"label": "subtype"}},
        lambda rows: {
            "class_accuracy": accuracy_score(
                [row["label"] for row in rows], [row["prediction"] for row in rows]
            )
        },
    ),
}
GRADES = ("none", "some", "much")


def write_table(path: Path, cohort: Path) -> None:
    """Write a table with a column for every task, in which every class, event and censored slide is frequent
    enough to be split."""
    rows = []
    for number, (slide_id, row) in enumerate(sorted(read_labels(cohort / "labels.csv").rows.items())):
        tumour = int(row.label or 0)
        rows.append(
            {
                "slide": slide_id,
                "patient": row.patient,
                "burden": f"{10 * tumour + number % 3}",
                "months": f"{30 - 20 * tumour + number % 5}",
                "died": str(number // 2 % 2),
                "grade": GRADES[number % 3],
                "subtype": "luminal" if tumour else "basal",
            }
        )
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_run_of_every_task(
    name: str, small_run: Path, cohort: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    spec, expected = TASKS[name]
    run = tmp_path / "run"
    run.mkdir()
    for part in ("slides", "tissue", "previews", "outcomes.csv", "provenance.json"):
        source = small_run / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, run / part)
    write_table(tmp_path / "labels.csv", cohort)
    settings = {
        **quick_config,
        "run": str(run),
        "task": spec,
        "slides": {
            **quick_config["slides"],
            "labels": str(tmp_path / "labels.csv"),
            **({"class_names": GRADES} if name == "ordinal" else {}),
        },
        "models": {"abmil_gated": {}, "mi_net": {}},
        "train": {"epochs": 3, "lr": 0.001, "bags_per_batch": 8},
    }
    config = parse_config(settings)
    summary = run_pipeline(config)
    assert not summary.failed
    assert summary.work["tile"] == summary.work["extract"] == 0  # the features are those of detection

    folder = RunFolder(run)
    for model in config.models:
        card = load_model(folder.model(model, 0))
        assert (card.task.kind, card.threshold) == (spec["kind"].removeprefix("discrete_"), None)
        with (folder.evaluation(model) / "predictions.csv").open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        assert {row["slide"] for row in rows} == set(Split.load(folder.split).folds[0].test)
        found = read_json(folder.evaluation(model) / "metrics.json")
        assert found["task"] == card.task.kind
        for metric, value in expected(rows).items():
            assert found["slide"][metric] == pytest.approx(value, abs=1e-4), metric
            interval = found["slide"]["intervals"][metric]
            if (
                interval is not None and interval["low"] is not None
            ):  # else the metric is the same on all bootstrap draws
                assert interval is None or math.isnan(value) or interval["low"] <= value <= interval["high"]
        assert found["froc"]["score"] is None
        assert f"does not apply to {card.task.kind}" in found["froc"]["reasons"]["score"]
        assert f"does not apply to {card.task.kind}" in found["patch"]["reasons"]["auc"]
        scores, header = read_slide_scores(folder.slide_scores(model))
        assert header.task == spec["kind"]
        assert all(math.isnan(row.probability) and row.prediction is not None for row in scores)
        assert all(
            folder.heatmap(model, row.slide_id, "png").exists() for row in scores if row.part == "test"
        )

    page = folder.report.read_text(encoding="utf-8")
    assert "prediction" in page
    assert "called positive" not in page
    again = run_pipeline(load_config(run))
    assert not any(again.work.values())

    difference = run_compare(config, "abmil_gated", "mi_net").slide.differences[next(iter(expected(rows)))]
    wanted = difference.first - difference.second
    assert difference.difference == pytest.approx(wanted, nan_ok=True)
    with pytest.raises(ConfigError, match=r"task\.kind: .* needs detection"):
        refine_run(config, "mi_net")

    slide = next((cohort / "slides").rglob("*.tif*"))
    predicted = predict_slides(folder.model("abmil_gated", 0), slide, tmp_path / "new", not_learned=True)
    assert not predicted.failed
    with (tmp_path / "new" / "predictions.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    scored = {one.slide_id: one for one in read_slide_scores(folder.slide_scores("abmil_gated"))[0]}
    task = load_model(folder.model("abmil_gated", 0)).task
    assert row["prediction"] == task.text(scored[row["slide"]].shown)


@pytest.mark.slow
def test_heatmaps_of_a_number_mark_no_tumour(
    small_run: Path, cohort: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    """One regression with max pooling: no contour, no detection, no tile of class tumour; the terminal shows
    R²."""
    run = tmp_path / "run"
    run.mkdir()
    for part in ("slides", "tissue", "previews", "outcomes.csv", "provenance.json"):
        source = small_run / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, run / part)
    write_table(tmp_path / "labels.csv", cohort)
    config = parse_config(
        {
            **quick_config,
            "run": str(run),
            "task": TASKS["regression"][0],
            "slides": {**quick_config["slides"], "labels": str(tmp_path / "labels.csv")},
            "models": {"mi_net": {}},
            "train": {"epochs": 1},
            "qupath": {"version": "0.3"},
        }
    )
    run_pipeline(config)
    (path, *_) = (run / "heatmaps").rglob("*.geojson")
    found = json.loads(path.read_text())["features"]
    kinds = {
        feature["properties"].get("objectType", feature["properties"].get("object_type")) for feature in found
    }
    assert kinds <= {"tile", "annotation"}
    names = {feature["properties"].get("classification", {}).get("name") for feature in found}
    assert "Tumor" not in names
    tile = next(
        feature
        for feature in found
        if feature["properties"].get("objectType", feature["properties"].get("object_type")) == "tile"
    )
    assert "score_rank" in json.dumps(tile)
    shown = CliRunner().invoke(cli, ["evaluate", str(run)])
    assert shown.exit_code == 0, shown.output
    assert "R²" in shown.output
    assert "AUC" not in shown.output
