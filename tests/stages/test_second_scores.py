"""A run whose model gives each tile two scores: both are measured and shown, and maps show the chosen one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.stages import handmade
from tests.stages.test_heatmap import job, objects_of
from wsi_mil.cli.subcommands.evaluate import _model_lines
from wsi_mil.contracts.scores import SlideScores, SlideScoresHeader
from wsi_mil.evaluation.annotations import AnnotationFolder
from wsi_mil.evaluation.metrics_file import read_metrics
from wsi_mil.evaluation.results import MetricsFile
from wsi_mil.evaluation.table import shown_metrics
from wsi_mil.report.sections.evaluation import SECTION
from wsi_mil.report.source import ReportSource
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import write_slide_scores, write_tile_scores
from wsi_mil.stages.evaluate import run_evaluate
from wsi_mil.stages.heatmap import heatmap_one
from wsi_mil.stages.heatmap_job import HeatmapJob

PROBABILITY = {"s0": 0.9, "s1": 0.8, "s2": 0.3}
"""Of the slides; the last one is normal."""
LESION_TILES = (0, 1, 2, 6, 7, 8)
"""The tiles of the annotated square of 3 x 2 tiles, in the upper left corner of the tissue."""


def two_scores(slide_id: str) -> SlideScores:
    """Attention and logits that are drawn independently; the attention sums to 1."""
    rng = np.random.default_rng(int(slide_id[1]))
    weights = rng.random(24)
    attention = handmade.scores((weights / weights.sum()).astype(np.float32), slide_id, "attention")
    p = PROBABILITY[slide_id]
    logits = rng.normal(size=24).astype(np.float32)
    logits[list(LESION_TILES)] += 1.0 if p > 0.5 else 0.0
    return replace(
        attention,
        probability=p,
        class_probabilities=(1 - p, p),
        second_scores=logits,
        second_kind="logit",
    )


def annotated(folder: Path) -> AnnotationFolder:
    left, top = handmade.LEFT, handmade.TOP
    right, bottom = left + 3 * handmade.SIZE, top + 2 * handmade.SIZE
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    properties = {"objectType": "annotation", "classification": {"name": "Tumor"}}
    polygon = {"type": "Polygon", "coordinates": [ring]}
    one = {"type": "Feature", "geometry": polygon, "properties": properties}
    folder.mkdir()
    for slide_id in ("s0", "s1"):
        text = json.dumps({"type": "FeatureCollection", "features": [one]})
        (folder / f"{slide_id}.geojson").write_text(text)
    return AnnotationFolder(path=folder)


def write_scores(run: RunFolder, second_kind: str = "logit") -> None:
    split = handmade.split(tuple(PROBABILITY))
    split.save(run.split)
    for slide_id in PROBABILITY:
        handmade.store_tiles(run, slide_id)
        found = two_scores(slide_id)
        kept = found if second_kind else replace(found, second_scores=None, second_kind="")
        write_tile_scores(run.tile_scores("m", slide_id), kept)
    rows = [handmade.score_row(s, p, int(p > 0.5)) for s, p in PROBABILITY.items()]
    header = SlideScoresHeader("m", split.digest(), 1, second_kind=second_kind)
    write_slide_scores(run.slide_scores("m"), rows, header)


def evaluated(folder: Path) -> tuple[RunFolder, MetricsFile]:
    config = handmade.config(folder)
    run = RunFolder(config.run)
    write_scores(run)
    annotations = annotated(folder / "annotations")
    split = handmade.split(tuple(PROBABILITY))
    assert run_evaluate(run, "m", split, annotations, config.evaluation, execution=config.execution)
    assert not run_evaluate(run, "m", split, annotations, config.evaluation, execution=config.execution)
    found = read_metrics(run.evaluation("m") / "metrics.json")
    assert found is not None
    return run, found


def expected(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Patch metrics of all slides together, and AUC within the two slides with a lesion, by scikit-learn."""
    lesion = np.isin(np.arange(24), LESION_TILES)
    truth = {s: lesion if PROBABILITY[s] > 0.5 else np.zeros(24, bool) for s in PROBABILITY}
    pooled = [np.concatenate([one[s] for s in PROBABILITY]) for one in (truth, values)]
    within = [roc_auc_score(truth[s], values[s]) for s in ("s0", "s1")]
    return {
        "auc": float(roc_auc_score(*pooled)),
        "auprc": float(average_precision_score(*pooled)),
        "within": float(np.mean(within)),
    }


def test_both_scores_are_measured_pooled_and_within_slides(tmp_path: Path) -> None:
    _, found = evaluated(tmp_path)
    scores = {slide_id: two_scores(slide_id) for slide_id in PROBABILITY}
    weighted = {
        s: one.tile_scores.astype(np.float64) / one.tile_scores.max() * PROBABILITY[s]
        for s, one in scores.items()
    }
    logits = {s: one.second_scores.astype(np.float64) for s, one in scores.items() if one.second_kind}
    assert [patch.score_kind for patch in found.patches] == ["attention", "logit"]
    for patch, values in zip(found.patches, (weighted, logits), strict=True):
        wanted = expected(values)
        assert patch.metrics["auc"].value == pytest.approx(wanted["auc"])
        assert patch.metrics["auprc"].value == pytest.approx(wanted["auprc"])
        assert patch.facts is not None
        assert patch.facts.per_slide["auc"].mean == pytest.approx(wanted["within"])


def test_the_terminal_names_both_and_gives_slide_metrics_once(tmp_path: Path) -> None:
    _, found = evaluated(tmp_path)
    pairs = _model_lines("m", found, shown_metrics("terminal", "detection"))
    lines = [line for pair in pairs for line in pair]
    below = ["  bootstrap", ""]
    assert [line[:2] for line in lines] == [["m", "attention"], below, ["m", "logit"], below]
    assert len({len(line) for line in lines}) == 1
    second = found.patches[1]
    assert [value for value in lines[2][2:] if value] == [
        f"{value:.3f}"
        for name in ("auc", "auprc", "f1")
        if name in _shown_patch_metrics()
        for value in (second.metrics[name].value, _within(found, 1, name))
    ]


def _shown_patch_metrics() -> set[str]:
    return {entry.name for entry in shown_metrics("terminal", "detection") if entry.level == "patch"}


def _within(found: MetricsFile, number: int, name: str) -> float:
    facts = found.patches[number].facts
    assert facts is not None
    return facts.per_slide["dice" if name == "f1" else name].mean


def test_the_report_has_a_row_for_each_score(tmp_path: Path) -> None:
    run, found = evaluated(tmp_path)
    content = SECTION.read(ReportSource(run, (), "auto", None, ("m",)))
    assert content is not None
    page = " ".join(content.render().split())
    rows = page.split("<tbody>")[1].split("</tbody>")[0].split("</tr>")[:2]
    assert "<td>attention</td>" in rows[0]
    assert "<td>logit</td>" in rows[1]
    assert f"<td>{found.patches[1].metrics['auc'].value:.3f} <small>" in rows[1]
    assert "<td></td>" in rows[1], "slide metrics stand in the first row only"


def test_scores_of_an_earlier_version_are_measured_again_when_the_second_is_there(tmp_path: Path) -> None:
    config = handmade.config(tmp_path)
    run, annotations = RunFolder(config.run), annotated(tmp_path / "annotations")
    split = handmade.split(tuple(PROBABILITY))
    for second_kind, kinds in (("", ["attention"]), ("logit", ["attention", "logit"])):
        write_scores(run, second_kind)
        assert run_evaluate(run, "m", split, annotations, config.evaluation, execution=config.execution)
        found = read_metrics(run.evaluation("m") / "metrics.json")
        assert found is not None
        assert [patch.score_kind for patch in found.patches] == kinds


def heatmap_job(folder: Path, score: str) -> HeatmapJob:
    work = job(folder, score=score)
    write_tile_scores(RunFolder(work.run).tile_scores("m", "s0"), two_scores("s0"))
    return work


@pytest.mark.parametrize("score", ["main", "attention", "logit", "probability"])
def test_maps_and_outlines_show_the_score_that_is_asked_for(tmp_path: Path, score: str) -> None:
    """Without a score of that kind they show the main one; detections are always of the main one."""
    work = heatmap_job(tmp_path, score)
    heatmap_one(work)
    scores = two_scores("s0")
    assert scores.second_scores is not None
    weighted = scores.tile_scores / scores.tile_scores.max() * 0.9
    values = 1 / (1 + np.exp(-scores.second_scores)) if score == "logit" else weighted
    measurement = "prob_tumor" if score == "logit" else "score01"
    objects = [one["properties"] for one in objects_of(work)]
    tiles = [one["measurements"][measurement] for one in objects if one["objectType"] == "tile"]
    np.testing.assert_allclose(tiles, values, rtol=1e-5)
    points = [one["measurements"] for one in objects if one["objectType"] == "detection"]
    assert max(point["score01"] for point in points) == pytest.approx(0.9, rel=1e-5)
    picture = tifffile.imread(RunFolder(work.run).heatmap("m", "s0", "ome.tif"), level=0)
    assert picture.max() == round(1 + 254 * float(values.max()))


def test_another_choice_or_a_new_second_score_is_drawn_again(tmp_path: Path) -> None:
    main, logit = (heatmap_job(tmp_path / score, score) for score in ("main", "logit"))
    assert main.digest(None, 3, "logit") == main.digest(None, 3, "")
    assert (
        len({main.digest(None, 3, "logit"), logit.digest(None, 3, "logit"), logit.digest(None, 3, "")}) == 3
    )
