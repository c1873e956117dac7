"""What the report says of classes: which are positive, and each class against all others."""

import re
from pathlib import Path

import pytest

from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.contracts.metric import Interval, Metric
from wsi_mil.contracts.scores import SlideScoreRow, SlideScoresHeader
from wsi_mil.evaluation.measure import all_undefined
from wsi_mil.evaluation.metrics_file import write_metrics
from wsi_mil.evaluation.results import (
    ClassesResult,
    ClassResult,
    FrocResult,
    MetricsFile,
    PatchResult,
    PredictionResult,
)
from wsi_mil.evaluation.table import listed_metrics
from wsi_mil.report.model_parts import classes
from wsi_mil.report.sections import evaluation
from wsi_mil.report.source import ReportSource
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import write_slide_scores

SUBTYPES = LabelScheme(("luad", "<lusc>"), (), (), "task classification has no normal class")


@pytest.fixture
def source(tmp_path: Path) -> ReportSource:
    """A run with one model of two subtypes; of three slides of one class, one is taken for the other."""
    run = RunFolder(tmp_path)
    row = SlideScoreRow(
        slide_id="a",
        patient="p",
        fold=0,
        part="test",
        label=1,
        probability=float("nan"),
        threshold=float("nan"),
        predicted=False,
        tiles=3,
        tiles_digest="t",
        features_digest="f",
        model_digest="d",
        prediction=1.0,
        target=(1.0,),
        class_probabilities=(0.25, 0.75),
    )
    write_slide_scores(
        run.slide_scores("m"), [row], SlideScoresHeader("m", "s", 1, "classification", SUBTYPES)
    )
    whole = {entry.name: Metric(0.625, None, "", 4) for entry in listed_metrics("slide", "classification")}
    patch, froc = (all_undefined(level, "no lesions", "classification") for level in ("patch", "lesion"))
    each = (
        ClassResult("luad", 1, {"auc": Metric(0.75, Interval(0.5, 1.0, "bootstrap", 0.95, 9), "", 4)}),
        ClassResult("<lusc>", 3, {"auc": Metric(0.875, None, "", 4)}),
    )
    found = MetricsFile(
        "m",
        "i",
        "s",
        PredictionResult(whole, 4),
        PatchResult(patch),
        FrocResult(froc),
        "classification",
        SUBTYPES,
        ClassesResult(whole, each, ((1, 0), (1, 2))),
    )
    write_metrics(run.evaluation("m") / "metrics.json", found)
    return ReportSource(run, (), "auto", None, ("m",))


def test_each_class_has_a_row_with_its_confusions(source: ReportSource) -> None:
    content = classes.read(source, "m")
    assert content is not None
    html = content.render()
    rows = re.findall(r"<tr><th>(.*?)</th>(.*?)</tr>", html.split("<tbody>")[1], re.DOTALL)
    cells = {name: re.findall(r'<td class="n ?(\w*)">(\d+)', cells) for name, cells in rows}
    assert cells == {
        "luad": [("", "1"), ("good", "1"), ("", "0")],
        "&lt;lusc&gt;": [("", "3"), ("bad", "1"), ("good", "2")],
    }
    assert "0.500 to 1.000" in html
    assert "macro AUC 0.625" in html


def test_the_evaluation_says_what_the_labels_mean(source: ReportSource) -> None:
    content = evaluation.read(source)
    assert content is not None
    said = "Labels: classes luad, &lt;lusc&gt;, none is positive (task classification has no normal class)."
    assert said in content.render()


def test_a_model_without_classes_has_no_such_part(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_slide_scores(run.slide_scores("m"), [], SlideScoresHeader("m", "s", 1))
    assert classes.read(ReportSource(run, (), "auto", None, ("m",)), "m") is None
