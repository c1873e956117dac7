"""A run with two workers writes the bytes of a run with one: also metrics, curves, tables and the report."""

import csv
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wsi_mil.config import load_config
from wsi_mil.errors import MachineError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.json import read_json
from wsi_mil.io.tables import Row, read_csv, write_csv
from wsi_mil.report.crops import tissue_crop
from wsi_mil.report.model_parts import false_positives
from wsi_mil.report.model_parts.false_positives import FalsePositive
from wsi_mil.report.source import ReportSource
from wsi_mil.run import held_out
from wsi_mil.run.context import RunContext, open_run
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides import open_slide
from wsi_mil.stages import evaluate, report

MODEL = "focus_mil"
NAMED = ("config.yaml", "provenance.json", "report.html", "outcomes.csv")
"""Files that hold the path of the run, its number of workers, or how long something took."""


@pytest.fixture(scope="session")
def two_workers(finished_run: Callable[..., Path]) -> Path:
    """The run of `small_run`, made by two workers."""
    return finished_run("two_workers", models={MODEL: {}}, execution={"workers": 2, "threads": 1})


@pytest.fixture
def context(small_run: Path, tmp_path: Path) -> RunContext:
    """A copy of the finished run, to be evaluated by two workers."""
    shutil.copytree(small_run, tmp_path / "run")
    config = load_config(tmp_path / "run")
    execution = config.execution.model_copy(update={"workers": 2})
    return open_run(config.model_copy(update={"run": tmp_path / "run", "execution": execution}))


def contents(folder: Path) -> dict[str, bytes]:
    """Path -> content of the files below a folder, without TensorBoard's log, whose name has the time."""
    files = [path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def outcomes(run: Path) -> list[dict[str, str]]:
    with (run / "outcomes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("seconds", "state", "row_digest")} for row in rows]


def page(run: Path) -> str:
    """The page without the name of the run's folder, the digests of it, and the number of workers."""
    text = (run / "report.html").read_text(encoding="utf-8").replace(str(run), "RUN")
    return re.sub(r"workers: \d|<!-- inputs .*-->|content_digest: \w+", "", text)


@pytest.mark.slow
def test_every_file_of_a_run_with_two_workers_is_that_of_one(small_run: Path, two_workers: Path) -> None:
    one, two = contents(small_run), contents(two_workers)
    assert one.keys() == two.keys()
    assert [path for path in one if path not in NAMED and one[path] != two[path]] == []
    for stage in ("slides/", f"scores/{MODEL}/", f"heatmaps/{MODEL}/", f"evaluation/{MODEL}/"):
        assert any(path.startswith(stage) for path in one), stage
    assert outcomes(small_run) == outcomes(two_workers)
    assert page(small_run) == page(two_workers)


def evaluated(context: RunContext) -> dict[str, bytes]:
    """The files of a new evaluation of the model."""
    shutil.rmtree(context.run.evaluation(MODEL))
    assert evaluate.run(context) == 1
    return contents(context.run.evaluation(MODEL))


def aborting(slide_id: str, module: str, name: str, job: Any) -> Any:
    """Do a job in a worker, where `module.name` is the original; that of one slide ends the process."""
    if job.slide_id == slide_id:
        os.abort()
    return getattr(import_module(module), name)(job)


def abort_at(slide_id: str, module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, partial(aborting, slide_id, module.__name__, name))


def short_of_memory(job: Any) -> Any:
    raise MemoryError


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_slide_that_ends_its_worker_is_left_out_of_patch_metrics_and_froc(
    context: RunContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    """Each of the other slides has the detections that it had before."""
    folder = context.run.evaluation(MODEL)
    before, measured = contents(folder), read_json(folder / "metrics.json")
    gone = sorted((folder / "detections").iterdir())[0].stem
    execution = context.config.execution.model_copy(update={"workers": workers})
    context = replace(context, config=context.config.model_copy(update={"execution": execution}))
    abort_at(gone, held_out, "_read_slide", monkeypatch)
    after = evaluated(context)
    assert f"slide {gone} is left out of patch metrics and FROC: killed by signal 6 (SIGABRT)" in caplog.text
    assert before.keys() - after.keys() == {f"detections/{gone}.csv"}
    assert all(after[path] == before[path] for path in after if path.startswith("detections/"))
    now = read_json(folder / "metrics.json")
    assert now["patch"]["slides_without_annotation"] == [gone]
    assert now["patch"]["n_slides"] == measured["patch"]["n_slides"] - 1
    assert now["slide"] == measured["slide"]
    assert evaluate.run(context) == 0


@pytest.mark.slow
def test_metrics_are_not_written_where_the_machine_is_at_fault(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would count as up to date in the next run, which may have the memory."""
    before = contents(context.run.evaluation(MODEL))
    shutil.rmtree(context.run.evaluation(MODEL))
    monkeypatch.setattr(held_out, "_read_slide", short_of_memory)
    with pytest.raises(MachineError, match=r"could not be read because of this machine.*fewer workers"):
        evaluate.run(context)
    monkeypatch.undo()
    assert evaluate.run(context) == 1
    assert contents(context.run.evaluation(MODEL)) == before


@pytest.fixture
def without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: object) -> None:
        raise AssertionError("a worker process was started")

    monkeypatch.setattr("wsi_mil.execution.supervision.start_worker", start)


@pytest.mark.usefixtures("without_workers")
def test_no_worker_starts_where_nothing_is_to_be_read(context: RunContext) -> None:
    """An evaluation and a page that are up to date, and a page without a picture of a slide."""
    assert evaluate.run(context) == 0
    assert report.run(context) in (0, 1)  # the copy has another name, which the page shows
    context.run.report.unlink()
    assert report.run(context) == 1
    assert report.run(context) == 0


def false_positive_rows(run: RunFolder, folder: Path) -> tuple[list[str], list[Row]]:
    """Three slides, and four rows of false_positives.csv on tiles of these, the most probable first."""
    slide_ids = run.stored_slides()[:3]
    lines = []
    for probability, number, tile in ((0.9, 0, 5), (0.8, 1, 6), (0.7, 2, 7), (0.3, 0, 20)):
        x0_px, y0_px = run.store(slide_ids[number]).read_tiles().coords[tile]
        lines.append([slide_ids[number], x0_px + 0.25, y0_px, probability, 0.2])
    write_csv(folder / "f.csv", ["slide_id", "x0_px", "y0_px", "probability", "threshold"], lines)
    return slide_ids, read_csv(folder / "f.csv")


def pictures(context: RunContext, rows: list[Row], workers: int) -> list[FalsePositive]:
    execution = ExecutionSpec(workers=workers)
    source = ReportSource(context.run, context.slides, "auto", context.labels, (MODEL,), execution)
    return false_positives.false_positives(source, rows)


def test_pictures_of_the_report_are_those_that_the_slides_show(context: RunContext, tmp_path: Path) -> None:
    slide_ids, rows = false_positive_rows(context.run, tmp_path)
    found = pictures(context, rows, workers=2)
    assert found == pictures(context, rows, workers=1)
    assert [(one.slide_id, one.score01) for one in found] == [
        (slide_ids[number], p) for number, p in ((0, 0.9), (1, 0.8), (2, 0.7), (0, 0.3))
    ]
    for one in found:
        table = context.run.store(one.slide_id).read_tiles()
        with open_slide(context.sources[one.slide_id].file, slide_id=one.slide_id) as slide:
            assert one.jpeg == tissue_crop(slide, table, one.x0_px, one.y0_px)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_slide_that_ends_its_worker_leaves_the_other_pictures(
    context: RunContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    workers: int,
) -> None:
    slide_ids, rows = false_positive_rows(context.run, tmp_path)
    whole = pictures(context, rows, workers)
    abort_at(slide_ids[0], false_positives, "_crops", monkeypatch)
    assert pictures(context, rows, workers) == [one for one in whole if one.slide_id != slide_ids[0]]
    said = f"report: no pictures of false positives on slide {slide_ids[0]}: killed by signal 6 (SIGABRT)"
    assert said in caplog.text


def test_a_slide_that_was_replaced_has_no_pictures(
    context: RunContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They would show another slide at the places of false positives."""
    slide_ids, rows = false_positive_rows(context.run, tmp_path)
    whole, other = pictures(context, rows, workers=1), context.sources[slide_ids[1]].path
    slides = tuple(
        replace(source, path=other) if source.slide_id == slide_ids[0] else source
        for source in context.slides
    )
    found = pictures(replace(context, slides=slides), rows, workers=1)
    assert found == [one for one in whole if one.slide_id != slide_ids[0]]
    assert f"slide {slide_ids[0]!r}: its file is not the one that was tiled" in caplog.text
