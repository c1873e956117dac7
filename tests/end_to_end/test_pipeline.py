"""The whole run on a small cohort: what it writes, that it learns, that nothing is done twice, and what
repeats."""

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BuildOnce, FinishedRun
from wsi_mil.config.loading import parse_config
from wsi_mil.geojson import read_features
from wsi_mil.io.json import read_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_pipeline, run_stage
from wsi_mil.testing.qupath import broken_rules


@pytest.fixture(scope="session")
def finished(finished_run: FinishedRun) -> Path:
    """A finished run with two models. Read only: copy what you change."""
    return finished_run("two_models", models={"mi_net": {}, "abmil_gated": {}})


def config_of(run: Path, quick_config: dict[str, Any], **changes: Any) -> Any:
    return parse_config(
        {**quick_config, "run": str(run), "models": {"mi_net": {}, "abmil_gated": {}}, **changes}
    )


def test_everything_is_there_and_describes_itself(finished: Path) -> None:
    run = RunFolder(finished)
    for name in ("config.yaml", "provenance.json", "outcomes.csv", "report.html", "models/split.json"):
        assert (finished / name).is_file(), name
    metrics = read_json(finished / "evaluation" / "mi_net" / "metrics.json")
    assert set(metrics) >= {"slide", "patch", "froc", "split_digest", "inputs_digest"}
    assert metrics["slide"]["n"] == 6
    card = read_json(run.model("mi_net", 0) / "model.json")
    assert card["threshold"]["part"] == "val"
    assert card["training"]["split_digest"] == metrics["split_digest"]
    test = read_json(run.split)["folds"][0]["test"]
    for suffix in ("png", "ome.tif", "geojson.gz"):
        assert sorted(p.name for p in (finished / "heatmaps" / "mi_net").glob(f"*.{suffix}")) == [
            f"{s}.{suffix}" for s in test
        ]
    with (finished / "outcomes.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert {row["status"] for row in rows} == {"done"}
    assert len([row for row in rows if row["stage"] == "tile"]) == 18


def test_it_learned_where_the_lesions_are(finished: Path) -> None:
    metrics = read_json(finished / "evaluation" / "mi_net" / "metrics.json")
    assert metrics["patch"]["auc"] > 0.85
    assert metrics["patch"]["n_positive"] > 20


def test_the_report_needs_nothing_else(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("data:image/") >= 2 * 6 * 2
    assert "Research use only" in page
    order = [float(text) for text in re.findall(r"</b>, probability ([\d.]+)", page)[:6]]
    assert len(order) == 6
    assert order == sorted(order, reverse=True)


def test_every_geojson_keeps_qupaths_rules(finished: Path) -> None:
    """Read by plain JSON and GDAL, rule by rule; the tissue outlines as well."""
    files = [*(finished / "heatmaps").rglob("*.geojson.gz"), *(finished / "tissue").rglob("*.geojson")]
    assert len(files) >= 2 * 6 + 18
    for path in files:
        _, header = read_features(path)
        assert broken_rules(path, tuple(header["frame_size_px"])) == [], path.name


def test_a_second_run_does_nothing(finished: Path, quick_config: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "r"
    shutil.copytree(finished, run)
    first = run_pipeline(config_of(run, quick_config))  # the report names the configuration of the copy
    assert {stage for stage, worked in first.work.items() if worked} <= {"report"}
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    summary = run_pipeline(config_of(run, quick_config))
    assert not any(summary.work.values())
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_deleting_one_slides_features_redoes_that_slide_only(
    finished: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "r"
    shutil.copytree(finished, run)
    run_pipeline(config_of(run, quick_config))  # the copy lies elsewhere: its provenance is written anew
    victim = "slide_004"
    shutil.rmtree(run / "slides" / f"{victim}.zarr" / "features")
    others = {
        p: p.stat().st_mtime_ns for p in (run / "slides").rglob("*") if p.is_file() and victim not in str(p)
    }
    summary = run_pipeline(config_of(run, quick_config))
    assert summary.work == {
        "tile": 0,
        "extract": 1,
        "train": 0,
        "score": 0,
        "heatmap": 0,
        "evaluate": 0,
        "report": 0,
    }
    assert all(p.stat().st_mtime_ns == t for p, t in others.items())
    shutil.rmtree(run / "slides" / f"{victim}.zarr")
    summary = run_pipeline(config_of(run, quick_config))
    assert (summary.work["tile"], summary.work["extract"], summary.work["train"]) == (1, 1, 0)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics_digit_for_digit(
    finished: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    run_pipeline(config_of(tmp_path / "again", quick_config))
    for model in ("mi_net", "abmil_gated"):
        one, two = (
            (r / "evaluation" / model / "metrics.json").read_bytes() for r in (finished, tmp_path / "again")
        )
        assert one == two
    for name in ("heatmaps/mi_net", "scores/mi_net/tiles", "tissue"):
        for file in sorted((finished / name).iterdir()):
            assert file.read_bytes() == (tmp_path / "again" / name / file.name).read_bytes(), file.name


def test_an_edited_tissue_outline_is_used(
    finished: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "r"
    shutil.copytree(finished, run)
    path = run / "tissue" / "slide_003.geojson"
    value = json.loads(path.read_text())
    ring = [[300, 300], [900, 300], [900, 900], [300, 900], [300, 300]]
    value["features"] = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    ]
    path.write_text(json.dumps(value))
    edited, preview = path.read_bytes(), (run / "previews" / "slide_003.jpg").read_bytes()
    summary = run_stage(config_of(run, quick_config), "tile")
    assert summary.work["tile"] == 1
    table = RunFolder(run).store("slide_003").read_tiles()
    assert table.tissue_source == "user"
    assert 0 < len(table) < 40
    assert table.coords.min() >= 200
    assert path.read_bytes() == edited
    assert (run / "previews" / "slide_003.jpg").read_bytes() != preview
    run_stage(config_of(run, quick_config, tissue={"method": "threshold"}), "tile")
    assert RunFolder(run).store("slide_003").read_tiles().tissue_source == "user"


def shuffled_labels(cohort: Path) -> str:
    """labels.csv with labels that have nothing to do with the slides: they alternate within each centre."""
    with (cohort / "labels.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    by_centre: dict[str, int] = {}
    for row in rows:
        count = by_centre[row["centre"]] = by_centre.get(row["centre"], -1) + 1
        row["label"] = str(count % 2)
        row["patient"] = row["slide"]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.fixture(scope="session")
def shuffled(build_once: BuildOnce, quick_config: dict[str, Any], cohort: Path, finished: Path) -> Path:
    """A run of three folds with shuffled labels. Read only."""

    def build(folder: Path) -> None:
        labels = folder / "labels.csv"
        labels.write_text(shuffled_labels(cohort), newline="")
        shutil.copytree(finished, folder / "r")
        slides = {**quick_config["slides"], "labels": str(labels)}
        values = {**quick_config, "slides": slides, "run": str(folder / "r"), "models": {"mi_net": {}}}
        values["split"] = {"kind": "kfold", "folds": 3, "val_share": 0.34}
        run_pipeline(parse_config(values))

    return build_once("shuffled", build) / "r"


@pytest.mark.slow
def test_kfold_scores_every_slide_by_a_model_that_did_not_see_it(shuffled: Path) -> None:
    from wsi_mil.scoring import read_slide_scores

    rows, _ = read_slide_scores(shuffled / "scores" / "mi_net" / "slides.parquet")
    folds = read_json(shuffled / "models" / "split.json")["folds"]
    assert sorted(row.slide_id for row in rows) == sorted(s for fold in folds for s in fold["test"])
    for row in rows:
        assert row.slide_id in folds[row.fold]["test"]
        assert row.slide_id not in folds[row.fold]["train"]
    metrics = read_json(shuffled / "evaluation" / "mi_net" / "metrics.json")
    assert len(metrics["slide"]["folds"]["auc"]) == 3
    assert metrics["slide"]["n"] == 18


@pytest.mark.slow
def test_shuffled_labels_teach_nothing(shuffled: Path) -> None:
    """Nothing leaks: labels that have nothing to do with the slides cannot be predicted on held-out
    slides."""
    metrics = read_json(shuffled / "evaluation" / "mi_net" / "metrics.json")
    assert metrics["slide"]["auc"] < 0.85


def test_scores_of_features_that_are_gone_are_not_listed(
    finished: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    from wsi_mil.scoring import read_slide_scores

    run = tmp_path / "r"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "slides" / "slide_002.zarr")
    run_stage(config_of(run, quick_config), "score")
    rows, _ = read_slide_scores(run / "scores" / "mi_net" / "slides.parquet")
    assert "slide_002" not in {row.slide_id for row in rows}
    assert len(rows) == 17


@pytest.mark.slow
def test_an_edit_that_changes_no_tile_and_no_feature_is_followed_to_the_end(
    finished: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    """The share of tissue in a tile changes, hence the tile table, while the features stay equal to the last
    bit."""
    run = tmp_path / "r"
    shutil.copytree(finished, run)
    victim = read_json(run / "models" / "split.json")["folds"][0]["test"][0]
    path = run / "tissue" / f"{victim}.geojson"
    width = RunFolder(run).store(victim).read_tiles().plan.tile_width0_px
    digests = []
    for far in (6.8 * width, 6.97 * width):  # the last column of tiles is kept both times
        ring = [[300, 300], [far, 300], [far, 900], [300, 900], [300, 300]]
        item = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
        summary = run_pipeline(config_of(run, quick_config))
        assert not summary.problems
        features = RunFolder(run).store(victim).stored_features("texture")
        assert features is not None
        digests.append((features.digest, features.tiles_digest))
    assert digests[0][0] == digests[1][0], "the case shows nothing: the features differ"
    assert digests[0][1] != digests[1][1], "the case shows nothing: the tile table is the same"
    assert (summary.work["score"], summary.work["heatmap"], summary.work["evaluate"]) == (2, 2, 2)
    metrics = read_json(run / "evaluation" / "mi_net" / "metrics.json")
    assert metrics["patch"]["slides_without_annotation"] == []


def test_two_models_are_compared_on_the_same_slides(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The differences are those of metrics.json, model by model; the detections stand in files as the script
    reads them."""
    from wsi_mil.cli import main
    from wsi_mil.evaluation.detection_files import read_detections

    run = tmp_path / "r"
    shutil.copytree(finished, run)
    arguments = ["evaluate", str(run / "config.yaml"), f"run={run}", "--compare", "mi_net", "abmil_gated"]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert not stop.value.code
    assert "slide auc (DeLong)" in capsys.readouterr().out
    found = read_json(run / "evaluation" / "mi_net_against_abmil_gated.json")
    metrics = [read_json(run / "evaluation" / name / "metrics.json") for name in ("mi_net", "abmil_gated")]
    for level, name in (
        ("slide", "auc"),
        ("slide", "f1"),
        ("patch", "auc"),
        ("patch", "f1"),
        ("froc", "score"),
    ):
        row, values = found[level][name], [m[level][name] for m in metrics]
        assert [row["first"], row["second"]] == pytest.approx(values), name
        assert row["difference"] == pytest.approx(values[0] - values[1])
        assert row["low"] <= row["difference"] + 1e-9
        assert row["high"] >= row["difference"] - 1e-9
        assert 0 < row["p_two_sided"] <= 1
    assert metrics[0]["slide"]["delong"]["auc"] == pytest.approx(metrics[0]["slide"]["auc"])
    test = read_json(RunFolder(run).split)["folds"][0]["test"]
    files = [run / "evaluation" / "mi_net" / "detections" / f"{slide_id}.csv" for slide_id in test]
    assert sum(len(read_detections(path)) for path in files) > 3
    for wrong, why in (
        (("mi_net", "mi_net"), "two different models"),
        (("mi_net", "clam"), "no model 'clam'"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*arguments[:3], "--compare", *wrong])
        assert stop.value.code == 1
        assert why in capsys.readouterr().err


@pytest.mark.slow
def test_the_evaluation_says_how_truth_and_detections_were_made(
    finished: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "r"
    shutil.copytree(finished, run)
    plain = read_json(run / "evaluation" / "mi_net" / "metrics.json")
    own = {**quick_config["evaluation"], "froc_mode": "corrected"}
    changed = {
        "mask": own,
        "polygons": {**own, "froc_truth": "polygons"},
        "other": {**own, "detections": "tiles", "patch_truth": "centre"},
    }
    found = {}
    for name, evaluation in changed.items():
        assert (
            run_stage(config_of(run, quick_config, evaluation=evaluation), "evaluate").work["evaluate"] == 2
        )
        found[name] = read_json(run / "evaluation" / "mi_net" / "metrics.json")
    assert found["mask"]["froc"]["mode"] == "corrected"
    assert found["polygons"]["froc"]["lesions"] == "polygons"
    assert (
        found["polygons"]["froc"]["n_lesions"]
        == found["mask"]["froc"]["n_lesions"]
        == plain["froc"]["n_lesions"]
    )
    assert found["polygons"]["froc"]["score"] == pytest.approx(found["mask"]["froc"]["score"], abs=0.1)
    assert found["other"]["froc"]["detections"].startswith("every tile")
    assert found["other"]["patch"]["truth"] == "centre of the tile in a lesion"
    assert 0 < found["other"]["patch"]["n_positive"] != plain["patch"]["n_positive"] > 0


@pytest.mark.slow
def test_one_form_of_geojson_and_an_edited_outline(
    finished: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    """The old form replaces the new one, and an outline that keeps its tiles but moves a corner is drawn
    again."""
    run = tmp_path / "r"
    shutil.copytree(finished, run)
    heatmaps = {**quick_config["heatmaps"], "objects": ["tissue"]}
    config = config_of(run, quick_config, heatmaps=heatmaps, qupath={"version": "0.3"})
    run_stage(config, "tile")
    run_stage(config, "heatmap")
    assert not list((run / "heatmaps").rglob("*.geojson.gz"))
    folder = run / "heatmaps" / "mi_net"
    path = sorted(folder.rglob("*.geojson"))[0]
    assert broken_rules(path, tuple(read_features(path)[1]["frame_size_px"]), "0.3") == []
    outline = run / "tissue" / path.relative_to(folder)
    outline.write_text(outline.read_text().replace('"tissue 1"', '"tissue one"'))
    assert run_stage(config, "heatmap").work["heatmap"] == 2  # this slide, both models
    run_stage(config_of(run, quick_config), "heatmap")
    assert not list((run / "heatmaps").rglob("*.geojson"))
