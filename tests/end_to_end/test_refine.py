"""wsi-mil refine: pixel-level heatmaps of a finished run; a warning where they are out of date; maps of new
slides."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from tests.conftest import BuildOnce
from wsi_mil.cli.main import cli, main
from wsi_mil.config import load_config
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.heatmaps.refined import read_refined
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores
from wsi_mil.stages.pipeline import refine_run

QUICK = ("refine.epochs=2", "refine.tiles_per_class=64", "refine.suspicious_above=0.9", "refine.margin_um=16")


@pytest.fixture(scope="session")
def refined(small_run: Path, build_once: BuildOnce) -> Path:
    """The small run after `wsi-mil refine`. Read only: copy what you change."""

    def build(folder: Path) -> None:
        shutil.copytree(small_run, folder / "demo")
        result = CliRunner().invoke(cli, ["refine", str(folder / "demo"), "--model", "focus_mil", *QUICK])
        assert result.exit_code == 0, result.output
        assert "pixel Dice, the model's threshold" in result.output

    return build_once("refined", build) / "demo"


def rows_of(run: Path) -> list[SlideScoreRow]:
    return read_slide_scores(RunFolder(run).slide_scores("focus_mil"))[0]


def test_every_held_out_slide_has_maps_heatmap_and_figures(refined: Path, small_run: Path) -> None:
    folder = RunFolder(refined)
    parts = {row.slide_id: row.part for row in rows_of(refined)}
    shown = [slide_id for slide_id, part in parts.items() if part == "test"]
    for slide_id, part in parts.items():
        assert folder.refined("focus_mil", slide_id).exists() == (part in ("val", "test")), part
    assert any(len(read_refined(folder.refined("focus_mil", slide_id)).rows) for slide_id in shown)
    for slide_id in shown:
        fine, coarse = (
            tifffile.imread(RunFolder(run).heatmap("focus_mil", slide_id, "ome.tif"), level=0)
            for run in (refined, small_run)
        )
        assert fine.shape[0] >= 3.9 * coarse.shape[0]  # 64 µm tiles: 16 pixels of 4 µm instead of 4
    found = json.loads((refined / "evaluation" / "focus_mil" / "refine.json").read_text())
    assert found["test_slides"] == len(shown)
    assert 0 <= found["dice"]["own"]["first"] <= 1
    assert found["dice"]["own"]["difference"] == pytest.approx(
        found["dice"]["own"]["first"] - found["dice"]["own"]["second"]
    )
    assert "Pixel-level maps" in (refined / "report.html").read_text()


def test_contours_follow_pixels(refined: Path, small_run: Path) -> None:
    def corners(run: Path) -> int:
        total = 0
        for path in sorted((run / "heatmaps" / "focus_mil").glob("*.geojson.gz")):
            with gzip.open(path) as file:
                objects = json.load(file)["features"]
            annotations = [one for one in objects if one["properties"]["objectType"] == "annotation"]
            total += sum(json.dumps(one["geometry"]["coordinates"]).count(",") for one in annotations)
        return total

    assert corners(refined) > 1.5 * corners(small_run) > 0


def test_a_second_time_there_is_nothing_to_do_and_a_changed_setting_is_followed(
    refined: Path, tmp_path: Path
) -> None:
    run = tmp_path / "demo"
    shutil.copytree(refined, run)
    summary, before = refine_run(load_config(run, QUICK), "focus_mil")
    # the report names the configuration of the copy, which has another `run`
    assert summary.work == {"refine": 0, "heatmap": 0, "report": 1}
    summary, before = refine_run(load_config(run, QUICK), "focus_mil")
    assert not any(summary.work.values())
    summary, after = refine_run(load_config(run, (*QUICK, "refine.seed=3")), "focus_mil")
    validation = sum(row.part == "val" for row in rows_of(run))
    assert summary.work["refine"] == summary.work["heatmap"] + validation
    assert before is not None
    assert after is not None
    assert before.dice_own.first != after.dice_own.first
    assert before.dice_own.second == after.dice_own.second  # tiles stay as they are


def test_maps_of_an_older_model_are_left_out(
    refined: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "demo"
    shutil.copytree(refined, run)
    main_code = CliRunner().invoke(cli, ["train", str(run), "train.epochs=5"]).exit_code
    assert main_code == 0
    assert CliRunner().invoke(cli, ["score", str(run)]).exit_code == 0
    result = CliRunner().invoke(cli, ["heatmap", str(run)])
    assert result.exit_code == 0
    assert "are of an older model or refiner" in result.output
    assert "Pixel-level maps" not in _report(run)


def _report(run: Path) -> str:
    assert CliRunner().invoke(cli, ["evaluate", str(run)]).exit_code == 0
    assert CliRunner().invoke(cli, ["report", str(run)]).exit_code == 0
    return (run / "report.html").read_text()


def test_new_slides_are_refined_by_predict(refined: Path, cohort: Path, tmp_path: Path) -> None:
    slide = next(row.slide_id for row in rows_of(refined) if row.part == "test" and row.label)
    (tmp_path / "slides").mkdir()
    shutil.copy(cohort / "slides" / f"{slide}.tiff", tmp_path / "slides")
    model = refined / "models" / "focus_mil"
    result = CliRunner().invoke(
        cli, ["predict", str(model), str(tmp_path / "slides"), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    one, other = (
        read_refined(RunFolder(run).refined("focus_mil", slide)) for run in (refined, tmp_path / "out")
    )
    assert one.refiner_digest == other.refiner_digest
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.maps, other.maps)


def test_a_few_outlines_help_to_learn(refined: Path, cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "demo"
    shutil.copytree(refined, run)
    outlines = tmp_path / "outlines"
    outlines.mkdir()
    slide = next(row.slide_id for row in rows_of(run) if row.part == "train" and row.label)
    shutil.copy(cohort / "annotations" / f"{slide}.geojson", outlines)
    arguments = ["refine", str(run), "--model", "focus_mil", "--polygons", str(outlines), *QUICK]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    card = json.loads((run / "models" / "focus_mil" / "fold0" / "refiner.json").read_text())
    assert card["tiles"]["outlined"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nobody"], "scored models: focus_mil"),
        (["--model", "focus_mil", "refine.backbone=timm:resnet19"], "timm has no network 'resnet19'"),
        (["--model", "focus_mil", "refine.method=magic"], "refine.method"),
        (["--model", "focus_mil", "--polygons", "nowhere"], "no folder nowhere"),
        (["--model", "focus_mil", "refine.mpp=0.01"], "finer than slide"),
    ],
)
def test_mistakes_are_explained_in_one_line(
    refined: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["refine", str(refined), *arguments])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
