"""The table of stages and what runs them: order, labels, the lock, what is returned and logged."""

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.stages import handmade
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import DataError, StoreError
from wsi_mil.io.json import write_json
from wsi_mil.run.context import RunContext
from wsi_mil.stages import pipeline
from wsi_mil.stages.pipeline import log_work, refine_run, refuse_small_cohort, run_pipeline, run_stage
from wsi_mil.stages.table import STAGES


def test_the_stages_are_in_the_order_of_the_data_and_each_has_a_run() -> None:
    assert list(STAGES) == ["tile", "extract", "train", "score", "heatmap", "evaluate", "report"]
    for name in STAGES:
        assert callable(import_module(f"wsi_mil.stages.{name}").run)
    assert [name for name, stage in STAGES.items() if not stage.needs_labels] == ["tile", "extract", "report"]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that were run; each does nothing, says that 3 slides needed work, and needs the lock of the
    run."""
    names: list[str] = []

    def run_of(name: str) -> Any:
        def run(context: RunContext) -> int:
            assert (context.run.path / ".lock").exists()
            names.append(name)
            return 3

        return run

    for name in STAGES:
        monkeypatch.setattr(import_module(f"wsi_mil.stages.{name}"), "run", run_of(name))
    monkeypatch.setattr(pipeline, "refuse_small_cohort", lambda context, labels: None)  # one slide is enough
    return names


@pytest.fixture
def labels(tmp_path: Path) -> str:
    path = tmp_path / "labels.csv"
    path.write_text("slide,label\ns0,1\nghost,0\n")
    return str(path)


def slides(folder: Path, **more: str) -> dict[str, str]:
    handmade.source(folder / "slides")
    return {"folder": str(folder / "slides"), **more}


def test_every_stage_runs_in_order(tmp_path: Path, called: list[str], labels: str) -> None:
    summary = run_pipeline(handmade.config(tmp_path, slides=slides(tmp_path, labels=labels)))
    assert called == list(STAGES)
    assert summary.work == dict.fromkeys(STAGES, 3)
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_cohort_that_cannot_be_split_is_refused_before_any_stage(
    tmp_path: Path, called: list[str], labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "refuse_small_cohort", refuse_small_cohort)
    with pytest.raises(DataError, match="all 1 labelled slides are of one class"):
        run_pipeline(handmade.config(tmp_path, slides=slides(tmp_path, labels=labels)))
    assert called == []


def test_without_labels_only_the_stages_that_need_none(tmp_path: Path, called: list[str]) -> None:
    summary = run_pipeline(handmade.config(tmp_path, slides=slides(tmp_path)))
    assert called == ["tile", "extract", "report"]
    assert summary.problems == []


def test_a_single_stage(tmp_path: Path, called: list[str]) -> None:
    assert run_stage(handmade.config(tmp_path, slides=slides(tmp_path)), "extract").work == {"extract": 3}
    assert called == ["extract"]


def test_a_label_without_slide_is_a_failure_of_the_summary(
    tmp_path: Path, called: list[str], labels: str
) -> None:
    summary = run_pipeline(handmade.config(tmp_path, slides=slides(tmp_path, labels=labels)))
    assert [(row.slide_id, row.stage, row.status) for row in summary.failed] == [
        ("ghost", "labels", "failed")
    ]


def test_a_folder_of_another_format_is_refused_before_anything_is_written(
    tmp_path: Path, called: list[str]
) -> None:
    write_json(tmp_path / "run" / "provenance.json", {"kind": "wsi_mil run", "format_version": 9})
    with pytest.raises(StoreError, match="format 9"):
        run_pipeline(handmade.config(tmp_path, slides=slides(tmp_path)))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["provenance.json"]
    assert called == []


def test_a_stage_logs_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = handmade.context(tmp_path)
    context.run.ledger.put(Outcome("a", "tile", "done"))
    context.run.ledger.put(Outcome("b", "tile", "failed", "why"))
    with caplog.at_level(logging.INFO, logger=pipeline.logger().name):
        log_work(context, "tile", 2)
        log_work(context, "train", 1)
        log_work(context, "tile", 0)
    assert [record.getMessage() for record in caplog.records] == [
        "tile      2 slides worked on (1 done, 1 failed)",
        "train     1 model",
        "tile      up to date",
    ]


def test_refining_needs_a_run_with_scores(tmp_path: Path) -> None:
    config = handmade.config(tmp_path)
    with pytest.raises(StoreError, match="no run in"):
        refine_run(config, "m")
    write_json(config.run / "provenance.json", {"kind": "wsi_mil run", "format_version": 1})
    (config.run / "scores" / "other").mkdir(parents=True)
    (config.run / "scores" / "other" / "slides.parquet").touch()
    with pytest.raises(DataError, match=r"model 'm' has no scores in .*; scored models: other"):
        refine_run(config, "m")
