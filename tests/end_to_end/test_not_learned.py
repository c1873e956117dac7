"""A training that has learned nothing is reported everywhere: train, tables, maps, report, predict."""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import wsi_mil.stages.heatmap as heatmap_stage
from wsi_mil.cli.main import main
from wsi_mil.config.loading import load_config, parse_config
from wsi_mil.errors import ModelError
from wsi_mil.heatmaps import draw_overlay
from wsi_mil.run.context import open_run
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.trainings import summarise
from wsi_mil.scoring import read_slide_scores
from wsi_mil.scoring.card import read_card
from wsi_mil.stages import run_stage
from wsi_mil.stages.predict import predict_slides


@pytest.fixture
def config(run_with_features: Path, quick_config: Mapping[str, Any]) -> dict[str, Any]:
    """A run with features, and a model whose learning rate is too small to learn anything."""
    settings = {**quick_config, "run": str(run_with_features)}
    models = {"mi_net": {"lr": 1e-9, "epochs": 2, "restarts": 2}, "mean_pool": {"epochs": 30, "lr": 0.01}}
    return {**settings, "models": models}


def title_of_map(run: RunFolder, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the title of the first map that the stage draws of a model, in this process."""
    titles: list[str] = []

    def recording(*arguments: Any, title: str, **named: Any) -> bytes:
        titles.append(title)
        return draw_overlay(*arguments, title=title, **named)

    with monkeypatch.context() as patch:
        patch.setattr(heatmap_stage, "map_slides", lambda function, jobs, **_: map(function, jobs[:1]))
        patch.setattr(heatmap_stage, "draw_overlay", recording)
        heatmap_stage.draw_model(open_run(load_config(run.path)), name)
    return titles[0]


def test_it_is_reported_everywhere(
    config: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    run, loaded = RunFolder(Path(config["run"])), parse_config(config)
    with caplog.at_level(logging.INFO, logger="wsi_mil"):
        run_stage(loaded, "train")
    lines = [r.getMessage() for r in caplog.records if "fold 0: kept" in r.getMessage()]
    assert [("has not learned: it explains" in line, "mi_net" in line) for line in lines] == [
        (True, True),
        (False, False),
    ]
    with run.comparison.open(newline="") as handle:
        rows = {row["model"]: row for row in csv.DictReader(handle)}
    assert {name: row["learned"] for name, row in rows.items()} == {"mi_net": "no", "mean_pool": "yes"}
    assert {row[0]: row[-1] for row in summarise(run.comparison)} == {
        "model": "learned",
        "mi_net": "0 of 1",
        "mean_pool": "1 of 1",
    }
    assert run_stage(loaded, "train").work["train"] == 0
    run_stage(loaded, "score")
    assert "score mi_net fold 0: the model has not learned" in caplog.text
    assert read_slide_scores(run.slide_scores("mi_net"))[1].not_learned == (0,)
    assert read_slide_scores(run.slide_scores("mean_pool"))[1].not_learned == ()
    assert "mi_net (has not learned):" in title_of_map(run, "mi_net", monkeypatch)
    assert "learned" not in title_of_map(run, "mean_pool", monkeypatch)
    run_stage(loaded, "heatmap")
    run_stage(loaded, "evaluate")
    run_stage(loaded, "report")
    page = run.report.read_text(encoding="utf-8")
    assert page.count("This model has not learned") == 1
    with pytest.raises(SystemExit):
        main(["evaluate", str(run.path)])
    assert "mi_net: the model of fold 0 has not learned" in capsys.readouterr().out
    model, slides = run.model("mi_net", 0), Path(config["slides"]["folder"])
    slide = sorted(slides.iterdir())[0]
    with pytest.raises(ModelError, match=r"'mi_net' in .* has not learned: .* add --not-learned to use it"):
        predict_slides(model, slide, tmp_path / "predicted")
    assert not (tmp_path / "predicted" / "predictions.csv").exists()
    predict_slides(model, slide, tmp_path / "predicted", not_learned=True)
    page = (tmp_path / "predicted" / "report.html").read_text(encoding="utf-8")
    assert "This model has not learned" in page


def test_restarts_keep_the_best_and_stop_at_the_first_that_learned(config: dict[str, Any]) -> None:
    run = RunFolder(Path(config["run"]))
    run_stage(parse_config(config), "train")
    folder = run.model("mi_net", 0)
    kept = read_card(folder).training
    seed = kept.spec.seed % 1_000_000
    shares = {}
    for restart in (1, 2):
        with (folder / f"restart_{restart}" / "metrics.csv").open(newline="") as handle:
            found = [float(row["val_unexplained"]) for row in csv.DictReader(handle)]
        shares[seed + 1_000_000 * restart] = found
    assert kept.learned is False
    share = kept.metrics["val_unexplained"]
    if kept.spec.seed == seed:
        assert share <= min(min(found) for found in shares.values())
    else:
        assert min(abs(share - one) for one in shares[kept.spec.seed]) < 1e-9
    assert not list(run.model("mean_pool", 0).glob("restart_*"))
    config["models"] = {"mean_pool": {"epochs": 30, "lr": 0.01, "restarts": 2}}
    run_stage(parse_config(config), "train")
    assert not list(run.model("mean_pool", 0).glob("restart_*"))
