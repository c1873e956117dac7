"""Scoring and drawing one slide: done, reused, failed; and a heatmap run that was killed draws only what is
missing."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from wsi_mil.config import RunConfig, load_config
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.io.json import write_json
from wsi_mil.run.context import RunContext
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import load_model, read_slide_scores
from wsi_mil.slides import find_slides
from wsi_mil.stages import heatmap
from wsi_mil.stages.heatmap import draw_model, heatmap_one
from wsi_mil.stages.heatmap_job import HeatmapJob
from wsi_mil.stages.score import ScoreJob, score_one

NAME = "focus_mil"


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> RunFolder:
    """A copy of the finished run that a test may change."""
    shutil.copytree(small_run, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def config_of(run: RunFolder) -> RunConfig:
    return load_config(run.path)


def score_job(run: RunFolder, slide_id: str) -> ScoreJob:
    folder = run.model(NAME, 0)
    job = ScoreJob(slide_id, run.path, NAME, folder, load_model(folder).digest)
    assert pickle.loads(pickle.dumps(job)) == job
    return job


def heatmap_job(run: RunFolder, number: int = 0) -> HeatmapJob:
    """The job of a test slide; `drawn_from` is what index.json says."""
    config = config_of(run)
    rows = [r for r in read_slide_scores(run.slide_scores(NAME))[0] if r.part in config.heatmaps.parts]
    row = sorted(rows, key=lambda r: r.slide_id)[number]
    [file] = [file for file in find_slides(config.slide_folder) if file.slide_id == row.slide_id]
    job = HeatmapJob(
        slide_id=row.slide_id,
        run=run.path,
        name=NAME,
        row=row,
        source=SlideSource(row.slide_id, file.path, None),
        reader="auto",
        spec=config.heatmaps,
        evaluation=config.evaluation,
        qupath=config.qupath,
        classes=(),
        drawn_from=run.read_index(NAME).get(row.slide_id),
    )
    assert pickle.loads(pickle.dumps(job)) == job
    return job


def context_of(run: RunFolder) -> RunContext:
    config = config_of(run)
    sources = [SlideSource(file.slide_id, file.path, None) for file in find_slides(config.slide_folder)]
    return RunContext(config, run, tuple(sources), None)


def test_a_slide_is_scored_once_and_again_to_the_same_bytes(run: RunFolder) -> None:
    slide_id = run.stored_slides()[0]
    path = run.tile_scores(NAME, slide_id)
    before = path.read_bytes()
    first = score_one(score_job(run, slide_id))
    assert (first.status, first.reused, first.stage) == ("done", True, f"score {NAME}")
    path.unlink()
    again = score_one(score_job(run, slide_id))
    assert (again.status, again.reused, again.digest) == ("done", False, first.digest)
    assert path.read_bytes() == before


def test_a_slide_whose_features_are_gone_fails_with_the_next_step(run: RunFolder) -> None:
    slide_id = run.stored_slides()[0]
    shutil.rmtree(run.store(slide_id).path / "features")
    found = score_one(score_job(run, slide_id))
    assert found.status == "failed"
    assert "run `wsi-mil extract`" in found.reason


def test_a_heatmap_is_drawn_when_a_file_or_its_index_is_missing(run: RunFolder) -> None:
    job = heatmap_job(run)
    assert heatmap_one(job).reused
    picture = run.heatmap(NAME, job.slide_id, "png")
    before = picture.read_bytes()
    picture.unlink()
    found = heatmap_one(job)
    assert (found.status, found.reused, found.digest) == ("done", False, job.drawn_from)
    assert picture.read_bytes() == before
    assert not heatmap_one(replace(job, drawn_from=None)).reused
    other = replace(job, row=replace(job.row, threshold=job.row.threshold / 2))
    drawn = heatmap_one(other)
    assert not drawn.reused
    assert drawn.digest != job.drawn_from


@pytest.mark.usefixtures("work_here")
def test_a_kill_among_the_heatmaps_redraws_only_what_is_missing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends at the third slide, without any clean-up: the first two are in the index already."""
    index = run.path / "heatmaps" / NAME / "index.json"
    whole = index.read_bytes()
    write_json(index, {})
    context, drawn = context_of(run), 0

    def killed_at_the_third(job: HeatmapJob) -> Outcome:
        nonlocal drawn
        if drawn == 2:
            assert len(run.read_index(NAME)) == 2  # on disk before the process would end
            raise KeyboardInterrupt
        drawn += 1
        return heatmap_one(job)

    monkeypatch.setattr(heatmap, "heatmap_one", killed_at_the_third)
    monkeypatch.setattr("wsi_mil.run.recording.SAVING_FRACTION", 1e9)
    with pytest.raises(KeyboardInterrupt):
        draw_model(context, NAME)
    monkeypatch.undo()
    assert draw_model(context_of(run), NAME) == len(run.read_index(NAME)) - 2
    assert index.read_bytes() == whole


def test_the_number_of_workers_changes_no_byte(run: RunFolder) -> None:
    folder = run.path / "heatmaps" / NAME
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    config = config_of(run)
    two = config.model_copy(update={"execution": config.execution.model_copy(update={"workers": 2})})
    draw_model(replace(context_of(run), config=two), NAME)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
